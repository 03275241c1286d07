// Package history is what a chaos run writes down and what its checker reads:
// one JSON line for each request of each client, fault and note, in the order in
// which they ended.
//
// It owns the form of the file and nothing else. It never judges.
//
// Invariant: a record is written once its outcome is known, so everything that
// a client learned is in the file, and nothing that it did not.
package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// Operations of a record.
const (
	Run      = "run"      // the first record: seed, numbers, rooms of the clients
	Send     = "send"     // PUT /rooms/{}/send/m.room.message/{txn}
	State    = "state"    // PUT /rooms/{}/state/m.room.topic/
	Sync     = "sync"     // GET /sync
	Resync   = "resync"   // GET /sync with a token that was left behind
	ToDevice = "todevice" // PUT /sendToDevice/m.chaos/{txn}
	Upload   = "upload"   // POST /keys/upload
	Claim    = "claim"    // POST /keys/claim
	Event    = "event"    // GET /rooms/{}/event/{} of an own event
	Messages = "messages" // GET /rooms/{}/messages?dir=b from the end
	Fill     = "fill"     // GET /rooms/{}/messages?dir=b from the start of a limited timeline
	Final    = "final"    // a whole room, oldest first, read from one instance after the run
	Topic    = "topic"    // the state m.room.topic of a room, read from one instance after the run
	Doctor   = "doctor"   // what "stoa doctor store" said after the run: Status 200, or Text
	Fault    = "fault"    // Target was in trouble from Begin to End
	Note     = "note"     // something about the harness itself
	End      = "end"      // the last record
)

// Record is one line. Times are microseconds since the start of the run on one
// clock, so they can be compared between clients.
type Record struct {
	Op     string `json:"op"`
	Client int    `json:"client"`
	Begin  int64  `json:"begin"`
	End    int64  `json:"end"`

	// Status is that of the answer, 0 if none came; Err the errcode or what
	// happened to the connection.
	Status   int    `json:"status,omitempty"`
	Err      string `json:"err,omitempty"`
	Instance string `json:"instance,omitempty"` // X-Stoa-Instance
	Home     string `json:"home,omitempty"`     // X-Stoa-Home
	Attempt  int    `json:"attempt,omitempty"`  // from 1 on, with the same transaction ID

	Room    int    `json:"room,omitempty"` // from 1 on
	Txn     string `json:"txn,omitempty"`
	Body    string `json:"body,omitempty"` // unique text of what was sent
	EventID string `json:"event_id,omitempty"`

	Since     string     `json:"since,omitempty"`
	Next      string     `json:"next,omitempty"`
	Timelines []Timeline `json:"timelines,omitempty"`
	ToDevice  []string   `json:"to_device,omitempty"` // bodies, in order
	// Dropped says that the client threw the answer away as if it had not come.
	Dropped bool `json:"dropped,omitempty"`

	To     int      `json:"to,omitempty"`     // client that a to-device message or a claim is for
	Keys   []string `json:"keys,omitempty"`   // "algorithm:id value" uploaded or claimed
	Events []Shown  `json:"events,omitempty"` // of Messages and Fill newest first, of Final oldest first

	Target  string  `json:"target,omitempty"` // instance of a fault, or that was read from
	Fault   string  `json:"fault,omitempty"`
	Exit    int     `json:"exit,omitempty"` // of a drained process
	Gone    int64   `json:"gone,omitempty"` // when a drained process had ended
	Seed    uint64  `json:"seed,omitempty"`
	Clients int     `json:"clients,omitempty"`
	Rooms   [][]int `json:"rooms,omitempty"` // by client: rooms that it is in
	Text    string  `json:"text,omitempty"`
}

// OK says that the request was answered with a 200.
func (r *Record) OK() bool { return r.Status == 200 }

// Timeline is a room's part of a /sync answer, oldest event first.
type Timeline struct {
	Room    int     `json:"room"`
	Limited bool    `json:"limited,omitempty"`
	Events  []Shown `json:"events,omitempty"`
}

// Shown is an event as a client was shown it. Body is the unique text of a
// message or topic, and "" of other events.
type Shown struct {
	ID   string `json:"id"`
	Body string `json:"body,omitempty"`
}

// Writer appends records to a file. It is safe for many goroutines.
type Writer struct {
	mu  sync.Mutex // guards all below
	f   *os.File
	out *bufio.Writer
	err error
	n   int
}

// Create makes the file of a run.
func Create(file string) (*Writer, error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	return &Writer{f: f, out: bufio.NewWriterSize(f, 1<<18)}, nil
}

// Add appends a record. Its error comes back from Close.
func (w *Writer) Add(r *Record) {
	line, err := json.Marshal(r)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		_, err = w.out.Write(append(line, '\n'))
	}
	w.n++
	w.err = errors.Join(w.err, err)
}

// Close writes what is buffered and gives the first error of all.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.err, w.out.Flush(), w.f.Close())
}

// Read reads a whole file.
func Read(in io.Reader) ([]*Record, error) {
	var records []*Record
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		r := &Record{}
		if err := json.Unmarshal(lines.Bytes(), r); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(records)+1, err)
		}
		records = append(records, r)
	}
	return records, lines.Err()
}
