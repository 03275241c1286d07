package main

import (
	"fmt"
	"math"
	"math/rand/v2"

	"stoa/internal/auth"
)

// The kinds of rooms, by how many members they may have.
type kind uint8

const (
	course  kind = iota // up to 50
	faculty             // up to 500
	campus              // up to 3,000
	all                 // everybody
	kinds
)

func (k kind) String() string {
	return [kinds]string{"up to 50", "up to 500", "up to 3,000", "all"}[k]
}

// What the institution of 26,015 people has of each kind, and how small and large
// such rooms are. Sizes are spread evenly over their logarithm, as small groups
// are more frequent than large ones.
var kindsOfRooms = [kinds]struct{ rooms, smallest, largest int }{
	course:  {4000, 5, 50},
	faculty: {120, 51, 500},
	campus:  {16, 501, 3000},
	all:     {1, 0, 0},
}

// share is how many of a thousand messages go to each kind. Those to all are sent
// by the clock.
var share = [kinds]int{course: 900, faculty: 90, campus: 10}

const (
	institution = 26015
	serverName  = "university.test"
	// maxDevices is how many devices a person has at most.
	maxDevices = 3
)

// plan is who is where: the same for the same numbers of people and rooms.
type plan struct {
	people, online, history int
	devices                 int // of each person who may be connected
	rooms                   []roomPlan
}

type roomPlan struct {
	kind    kind
	members []int // numbers of people; the first makes the room
}

func newPlan(people, online, history int) *plan {
	p := &plan{people: people, online: online, history: history, devices: maxDevices}
	rnd := rand.New(rand.NewPCG(1088, 26015)) // any numbers, but always the same
	for k := range kinds {
		of := kindsOfRooms[k]
		deck := &deck{rnd: rnd, people: people}
		for range max(1, of.rooms*people/institution) {
			size := people
			if k != all {
				spread := math.Log(float64(of.largest+1) / float64(of.smallest))
				size = min(people, int(float64(of.smallest)*math.Exp(spread*rnd.Float64())))
			}
			p.rooms = append(p.rooms, roomPlan{kind: k, members: deck.draw(size)})
		}
	}
	return p
}

// deck gives everybody a place before anybody has one more.
type deck struct {
	rnd    *rand.Rand
	people int
	rest   []int
}

// draw takes so many different people.
func (d *deck) draw(n int) []int {
	out := make([]int, 0, n)
	has := make(map[int]bool, n)
	var later []int // those who are in the room already
	for len(out) < n {
		if len(d.rest) == 0 {
			d.rest = d.rnd.Perm(d.people)
		}
		x := d.rest[0]
		d.rest = d.rest[1:]
		if has[x] {
			later = append(later, x)
			continue
		}
		has[x] = true
		out = append(out, x)
	}
	d.rest = append(d.rest, later...)
	return out
}

// events is how many events the rooms hold, about.
func (p *plan) events() (n int) {
	for _, r := range p.rooms {
		n += len(r.members) + p.history
	}
	return n
}

// connected gives the members of a room who have a device among the first so
// many, and how many devices that are. The online people are the first ones.
func (p *plan) connected(room, devices int) (people []int, count int) {
	for _, m := range p.rooms[room].members {
		of := min(max(devices-m*p.devices, 0), p.devices)
		if of > 0 {
			people = append(people, m)
			count += of
		}
	}
	return people, count
}

func userName(person int) string { return fmt.Sprintf("@p%d:%s", person, serverName) }

func deviceName(device int) string { return fmt.Sprintf("DEVICE%d", device) }

// accessToken is that of a person's device.
func accessToken(person, device int) string {
	return fmt.Sprintf("%s%032d", auth.AccessTokenStart(userName(person)), person*maxDevices+device)
}
