package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// speakSpec: one process sends all messages and says who types.
type speakSpec struct {
	Addresses  []string
	Start      int64   // ns since 1970
	Warm       float64 // s before the start that count for nothing
	Seconds    float64
	Rate, Peak float64
	Burst      float64 // s
	Rooms      []speakRoom
	Devices    int // of each person
	// TypingEvery: one message in so many is typed before it is sent.
	TypingEvery int
	// Senders is how many send as fast as they are answered (flood).
	Senders int
}

type speakRoom struct {
	ID     string
	Kind   kind
	People []int // who is connected
}

// speakResult is printed at the end.
type speakResult struct {
	Messages    [kinds]int // acknowledged
	Typing      int
	Failed      int // not acknowledged though repeated
	TypingFails int
	LastFailure string
	AckP50      float64 // ms from due to acknowledged
	AckP99      float64
	Acked       map[int]int // messages by room
}

const (
	// speakConnections are so many that what is said does not wait for one: in a burst 280 requests come in a second,
	// and an answer may take as long.
	speakConnections = 300
	// burstAt is when the burst of a minute begins, allAt when its message to all is due.
	burstAt, allAt = 40, 15
	// typingAhead is how long somebody types.
	typingAhead = 2 * time.Second
)

// inBurst says whether a moment of the run, in seconds, is in a burst.
func inBurst(at, length float64) bool {
	second := math.Mod(at, 60)
	return second >= burstAt && second < burstAt+length
}

// utterance is one request of the schedule.
type utterance struct {
	due    time.Duration // after the start
	room   int
	person int
	typing bool
	number int // of the message
}

// schedule makes the whole run's messages: by a steady clock with some jitter, so
// that each second has what it should.
func (s *speakSpec) schedule() []utterance {
	rnd := rand.New(rand.NewPCG(7800, uint64(len(s.Rooms)))) // the same for all runs on the same rooms
	var byKind [kinds][]int
	for i, r := range s.Rooms {
		if len(r.People) > 0 {
			byKind[r.Kind] = append(byKind[r.Kind], i)
		}
	}
	var list []utterance
	count := 0
	say := func(at float64, k kind) {
		if len(byKind[k]) == 0 {
			return
		}
		if at > -0.01 {
			at = max(at, 0) // nothing is on the line: records are by the millisecond
		}
		room := byKind[k][rnd.IntN(len(byKind[k]))]
		people := s.Rooms[room].People
		u := utterance{due: time.Duration(at * float64(time.Second)), room: room, person: people[rnd.IntN(len(people))], number: count}
		if count++; count%s.TypingEvery == 0 {
			typing := u
			typing.typing, typing.due = true, u.due-typingAhead
			list = append(list, typing)
		}
		list = append(list, u)
	}
	for at := -s.Warm; at < s.Seconds; {
		rate := s.Rate * (1 + 0.2*math.Sin(2*math.Pi*at/60))
		if inBurst(at, s.Burst) {
			rate = s.Peak
		}
		draw, k := rnd.IntN(1000), kind(0)
		for draw >= share[k] {
			draw -= share[k]
			k++
		}
		say(at+rnd.Float64()/rate, k)
		at += 1 / rate
	}
	for at := allAt - 60*math.Ceil(s.Warm/60); at < s.Seconds; at += 60 {
		if at >= -s.Warm {
			say(at, all)
		}
	}
	return sorted(list)
}

func sorted(list []utterance) []utterance {
	slices.SortStableFunc(list, func(a, b utterance) int { return int(a.due - b.due) })
	return list
}

// voices sends a schedule.
type voices struct {
	spec   *speakSpec
	chorus *chorus

	mu     sync.Mutex // guards all below
	result speakResult
	acks   []time.Duration
}

// runSpeakers is the process of those who speak.
func runSpeakers(kind, file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec speakSpec
	if err := json.Unmarshal(raw, &spec); err != nil {
		return err
	}
	list := spec.schedule()
	if kind == kindLecture {
		list = spec.lecture()
	}
	v := &voices{spec: &spec, chorus: newChorus(spec.Addresses, speakConnections, 2*len(list)+1), result: speakResult{Acked: map[int]int{}}}
	for _, u := range list {
		time.Sleep(time.Until(time.Unix(0, spec.Start).Add(u.due)))
		v.say(u)
	}
	v.chorus.end()
	v.result.AckP50, v.result.AckP99 = quantile(v.acks, 0.5), quantile(v.acks, 0.99)
	return json.NewEncoder(os.Stdout).Encode(v.result)
}

// say queues a request; it never waits.
func (v *voices) say(u utterance) {
	r := &v.spec.Rooms[u.room]
	token := accessToken(u.person, u.number%v.spec.Devices)
	room := "/_matrix/client/v3/rooms/" + url.PathEscape(r.ID)
	typing := room + "/typing/" + url.PathEscape(userName(u.person))
	if u.typing {
		v.chorus.jobs <- job{"PUT", typing, token, []byte(`{"typing":true,"timeout":30000}`), func(err error) { v.typed(u, err) }}
		return
	}
	due := v.spec.Start + int64(u.due)
	// The number of the run's beginning makes the transaction ID new for each run.
	target := room + "/send/m.room.message/" + strconv.FormatInt(v.spec.Start, 36) + "." + strconv.Itoa(u.number)
	v.chorus.jobs <- job{"PUT", target, token, message(due, u.room), func(err error) { v.sent(u, r.Kind, due, err) }}
	if (u.number+1)%v.spec.TypingEvery == 0 {
		v.chorus.jobs <- job{"PUT", typing, token, []byte(`{"typing":false}`), func(err error) { v.typed(u, err) }}
	}
}

func (v *voices) sent(u utterance, k kind, due int64, err error) {
	took := time.Duration(time.Now().UnixNano() - due)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.result.Failed++
		v.failed("message", err)
		return
	}
	if u.due < 0 {
		return
	}
	v.result.Messages[k]++
	v.result.Acked[u.room]++
	v.acks = append(v.acks, took)
}

func (v *voices) typed(u utterance, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if u.due >= 0 {
		v.result.Typing++
	}
	if err != nil {
		v.result.TypingFails++
		v.failed("typing", err)
	}
}

// failed notes an error. Called with the lock held.
func (v *voices) failed(what string, err error) {
	v.result.LastFailure = what + ": " + err.Error()
	if v.result.Failed+v.result.TypingFails <= 20 {
		fmt.Fprintln(os.Stderr, v.result.LastFailure)
	}
}
