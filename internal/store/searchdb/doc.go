// Package searchdb has the SQL of the table search_index, by which messages are found.
//
// The engines have different indexes for texts, FTS5 and GIN. Both get the same tokens and
// the same questions, so that they give the same answers. This is the one package with a
// statement for each engine.
//
// The invariant: a row has the tokens of the event with its number, and nothing else.
// Package search writes it; reads are free.
package searchdb
