package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// The loads.
const (
	loadUniversity = "university"
	loadLecture    = "lecture"
	loadFlood      = "flood"
)

// The engines.
const (
	engineSQLite   = "sqlite"
	enginePostgres = "postgres"
)

// Kinds of processes that send (first argument of this program).
const (
	kindSchedule = "speak"
	kindLecture  = "speak-lecture"
	kindFlood    = "speak-flood"
)

// load is who is connected and what they do, with the defaults of the flags that belong to it.
type load struct {
	name            string
	engine          string
	people, history int
	minutes         float64
	warm            time.Duration
	repeat          int
	plan            func(o *options) *plan
	filter          string // of syncs
	parses          bool   // devices decode answers whole
	speakers        string // the kind of process that sends
	typingEvery     int    // one message in so many is typed before it is sent
	receiptEvery    int    // one delivery in so many is marked as read; 0: none
	receiptPeriod   time.Duration
	senders         int    // who send as fast as they are answered
	untilAll        bool   // a run ends when every device has seen everything
	gogc            string // of the instances; "" is what they are shipped with
	lines           func() []line
}

var loads = map[string]*load{
	loadUniversity: {
		name: loadUniversity, engine: enginePostgres, people: institution, history: 20, minutes: 10, warm: time.Minute, repeat: 1,
		plan:   func(o *options) *plan { return newPlan(o.people, o.online, o.history) },
		filter: webFilter, speakers: kindSchedule, typingEvery: 5, receiptEvery: 10, gogc: gogc, lines: table,
	},
	loadLecture: {
		name: loadLecture, engine: engineSQLite, people: 2000, history: 20, minutes: 3, warm: 40 * time.Second, repeat: 1,
		plan:   func(o *options) *plan { return newLecture(o.people, o.history) },
		filter: webFilter, speakers: kindLecture, typingEvery: 1, receiptPeriod: 30 * time.Second, lines: lectureTable,
	},
	loadFlood: {
		name: loadFlood, engine: engineSQLite, people: 500, history: 20, minutes: 0.25, repeat: 5,
		plan:   func(o *options) *plan { return newFlood(o.people, o.history) },
		filter: gaplessFilter, parses: true, speakers: kindFlood, senders: 8, untilAll: true, lines: floodTable,
	},
}

// usage of the flag -load.
const loadUsage = `what is played:
university  26,015 accounts, 7,800 of them with three devices each; rooms of up to 50, 500, 3,000 and all; PostgreSQL
lecture     2,000 people with one device each in rooms of Zipf sizes, the largest with 57 % of them. Each writes once a
            minute, with typing on 2 s before and off with the message, and marks as read twice a minute.
            Bounds (one instance, SQLite): from when a message is due to when a device has it, p99 ≤ 500 ms;
            from when a receipt is wanted to its answer, p99 ≤ 100 ms
flood       eight people send to a room of 500 waiting devices, each the next message when the last is answered, for 15 s.
            Devices decode each answer, as clients do, and sync with a timeline limit of 20,000, so that they miss nothing
            however late they are.
            Bound, in each of five runs: from when a send is begun to when a device has the message, p99 ≤ 1 s`

const (
	lectureRooms = 100
	lectureDraws = 4 // rooms that each person goes into, some of them more than once
)

// newLecture puts everybody into some of 100 rooms, drawn with probabilities by Zipf's law: of 1,500 people about 860 are
// in the first.
func newLecture(people, history int) *plan {
	p := &plan{people: people, online: people, history: history, devices: 1}
	var upTo [lectureRooms]float64 // cumulated weights
	sum := 0.0
	for i := range upTo {
		sum += 1 / float64(i+1)
		upTo[i] = sum
	}
	rnd := rand.New(rand.NewPCG(1500, 860))
	members := make([][]int, lectureRooms)
	for person := range people {
		for range lectureDraws {
			x, room := rnd.Float64()*sum, 0
			for upTo[room] < x {
				room++
			}
			if n := len(members[room]); n == 0 || members[room][n-1] != person {
				members[room] = append(members[room], person)
			}
		}
	}
	for _, m := range members {
		if len(m) > 0 {
			p.rooms = append(p.rooms, roomPlan{kind: kindOfSize(len(m)), members: m})
		}
	}
	return p
}

func kindOfSize(members int) kind {
	k := course
	for k < campus && members > kindsOfRooms[k].largest {
		k++
	}
	return k
}

// newFlood is one room with everybody in it.
func newFlood(people, history int) *plan {
	r := roomPlan{kind: kindOfSize(people)}
	for person := range people {
		r.members = append(r.members, person)
	}
	return &plan{people: people, online: people, history: history, devices: 1, rooms: []roomPlan{r}}
}

// lecture makes the schedule of a lecture: each person writes once in each minute, at any moment of it, in any of the
// rooms they are in.
func (s *speakSpec) lecture() []utterance {
	rnd := rand.New(rand.NewPCG(1500, uint64(len(s.Rooms))))
	rooms := map[int][]int{} // by person
	people := 0
	for i, r := range s.Rooms {
		for _, person := range r.People {
			rooms[person] = append(rooms[person], i)
			people = max(people, person+1)
		}
	}
	var list []utterance
	for minute := -math.Ceil(s.Warm / 60); minute*60 < s.Seconds; minute++ {
		for person := range people {
			at := 60 * (minute + rnd.Float64())
			if n := len(rooms[person]); n > 0 && at >= -s.Warm && at < s.Seconds {
				u := utterance{due: time.Duration(at * float64(time.Second)), room: rooms[person][rnd.IntN(n)], person: person, number: len(list)}
				typing := u
				typing.typing, typing.due = true, u.due-typingAhead
				list = append(list, typing, u)
			}
		}
	}
	return sorted(list)
}

// applyLoad gives the flags that were not set the values of the load.
func (o *options) applyLoad(name, runs string, set map[string]bool) error {
	l := loads[name]
	if l == nil {
		return fmt.Errorf("no load %q", name)
	}
	o.load = l
	fill(&o.engine, l.engine, set["engine"])
	fill(&o.people, l.people, set["people"])
	fill(&o.history, l.history, set["history"])
	fill(&o.warm, l.warm, set["warm"])
	fill(&o.repeat, l.repeat, set["repeat"])
	fill(&o.minutes, l.minutes, set["minutes"])
	if set["seconds"] {
		o.minutes = o.seconds / 60
	}
	switch {
	case o.engine == engineSQLite && name == loadUniversity:
		return fmt.Errorf("the load %s needs PostgreSQL", name)
	case o.engine != engineSQLite && o.engine != enginePostgres:
		return fmt.Errorf("no engine %q", o.engine)
	case name == loadFlood && o.people < l.senders:
		return fmt.Errorf("the load %s needs %d people", name, l.senders)
	}
	if runs == "" {
		runs = runOne
		if o.engine == enginePostgres && name != loadFlood {
			runs += "," + runThree
		}
	}
	for _, run := range strings.Split(runs, ",") {
		switch {
		case run != runOne && run != runThree:
			return fmt.Errorf("no run %q", run)
		case run == runThree && o.engine == engineSQLite:
			return fmt.Errorf("the run %q needs PostgreSQL", run)
		}
		o.runs[run] = true
	}
	return nil
}

func fill[T any](to *T, value T, isSet bool) {
	if !isSet {
		*to = value
	}
}
