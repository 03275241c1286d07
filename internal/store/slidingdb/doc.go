// Package slidingdb keeps the connections of sliding sync, and reads the rooms of a user in the order of their last activity.
//
// It owns the SQL of the tables sliding_connections and sliding_states. It never looks into the state of a connection: its form
// belongs to package slidingsync, which writes both tables.
//
// The invariant: there is no state without its connection, and no connection without its device. Statements that add a row check for
// the other in the same commit.
package slidingdb
