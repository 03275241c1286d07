// Package search finds messages, room names and topics by their words.
//
// It owns the index (package searchdb): a reader of the stream adds what is said and removes
// what is redacted, and the job search.rebuild makes the whole index anew. The index holds
// tokens and no texts; it only suggests events. What a search returns is read from the
// rooms, and matched and shown by the rules of package history, so that nobody finds what
// they may not see, however old the index is. Encrypted messages have no words here.
//
// Growth: one row for each message that can be read here. A row goes with the redaction of
// its event, and within a day after the event was purged.
//
// The invariant: a search never returns an event that its user could not read in the room.
package search
