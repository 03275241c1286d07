// Package mediadb keeps what is known of media: the blobs that are kept, the mxc: addresses that name them, thumbnails,
// and what names media.
//
// It owns the SQL of the tables blobs, media, media_names and thumbnails. It never touches bytes: those are in package blob.
//
// The invariant that matters: the refs of a blob are the rows of media and thumbnails that have its hash. Each function
// that adds or removes such a row changes them in the same change, by a statement that fails if the blob has gone.
//
// Functions that take a [store.Read] may be called by everybody. Those that write are called by package media.
package mediadb
