// Reads of the column edges of table events. Written by package room.

package store

var selectEdges = Prepare(`SELECT e.num, e.edges FROM events AS e WHERE {{in e.num $1}}`)

// EdgesOf returns what the edges of some events are, by number, in one query;
// events that are not there are left out.
func (r *Read) EdgesOf(events []EventNum) (map[EventNum]Edges, error) {
	out := make(map[EventNum]Edges, len(events))
	return out, QueryEach(r, selectEdges, func(row *Row) error {
		var event EventNum
		var stored []byte
		row.Scan(&event, &stored)
		edges, err := decodeEdges(stored)
		out[event] = edges
		return err
	}, events)
}
