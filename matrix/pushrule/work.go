package pushrule

import "unicode/utf8"

// Bounds on the work that rules cause. A step is about a nanosecond on a small server; see the costs below.
const (
	// MaxMatchedText is how many bytes of a text patterns look at. It is several pages: people write shorter messages, and what
	// is longer is a log or a file that somebody pasted. Mentions are in m.mentions, whatever the length of the body.
	MaxMatchedText = 8 << 10
	// MemberWork is how many steps the rules of one member may take for one event: 250 keywords in 8 KiB need half of it.
	MemberWork = 1 << 20
	// EventWork is how many steps the rules of all members of a room may take for one event, once for finding the members and
	// once for evaluating their rules. One keyword with a wildcard for each of 26,000 members needs a fifth of it for a message of
	// 100 bytes.
	EventWork = 4 << 20
	// MaxRaised is for how many members one event may be more than its class says: those whom it mentions first, in their order.
	// For each of them something is stored with the event.
	MaxRaised = 1000
)

// Work is a number of steps that is left.
type Work struct{ left int }

// NewWork returns a budget for evaluating rules.
func NewWork(steps int) *Work { return &Work{left: steps} }

// Left returns the steps that are left.
func (w *Work) Left() int { return w.left }

// spend takes steps away; false if there are too few left, which takes all of them.
func (w *Work) spend(steps int) bool {
	if steps > w.left {
		w.left = 0
		return false
	}
	w.left -= steps
	return true
}

// Costs, as measured.
const (
	ruleSteps       = 1    // for a rule or a condition, besides what it looks at
	literalBytes    = 4    // bytes of text in which one step looks for a segment without question marks
	characterSteps  = 8    // for a byte of text, following a segment with question marks
	segmentSteps    = 8    // to begin with a segment
	permissionSteps = 2000 // to look at the power levels
)

// cost returns the greatest number of steps that matching a text of some bytes takes.
func (g *glob) cost(size int) int {
	steps, characters := segmentSteps*len(g.segments)+size/literalBytes, 0
	for i := range g.segments {
		if c := g.segments[i].characters; c != nil {
			characters = max(characters, characterSteps+c.count/64)
		}
	}
	return steps + size*characters
}

// truncate returns the beginning of a text that patterns look at.
func truncate(text string) string {
	if len(text) <= MaxMatchedText {
		return text
	}
	end := MaxMatchedText
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// truncateWords is truncate, and doesn't end within a word unless that is all there is.
func truncateWords(text string) string {
	short := truncate(text)
	if len(short) == len(text) || !isWord(text[len(short)]) {
		return short
	}
	end := len(short)
	for end > 0 && isWord(short[end-1]) {
		end--
	}
	if end == 0 {
		return short
	}
	return short[:end]
}
