// Package previewdb keeps the previews of links that were made lately.
//
// It owns the SQL of the table url_previews. It never knows which link a preview is of: rows have the hash of it as their
// key, so that the table is no list of what people read.
//
// The invariant that matters: an image that a row has named stays named until it is deleted. Put replaces a row only if the
// caller knew its image.
//
// Functions that take a [store.Read] may be called by everybody. Those that write are called by package preview.
package previewdb
