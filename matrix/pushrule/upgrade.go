package pushrule

import (
	"slices"
	"strings"

	"stoa/matrix/id"
)

// CopyRoom returns the rules with those for one room copied to another, as for a user who joins the room that replaces one:
// rules of the kind room, and those of the kinds override and underride that have a condition on the ID of the room and the
// room in their own ID, as clients make them to mute a room. A rule that is there already stays as it is, and so is a copy
// for which there is no room left out.
//
// Spec: client-server-api#room-upgrades
func (s *RuleSet) CopyRoom(from, to id.RoomID) *RuleSet {
	for _, kind := range []Kind{Override, Room, Underride} {
		var rules, added []Rule
		for _, rule := range s.own[kind] {
			if moved, ok := rule.forRoom(from.String(), to.String()); ok && s.find(kind, moved.ID) < 0 &&
				checkRuleID(kind, moved.ID) == nil && checkRoomFor(moved, slices.Concat(added, s.own[kind])) == nil {
				added = append(added, moved)
				rules = append(rules, moved)
			}
			rules = append(rules, rule)
		}
		if len(added) > 0 {
			s = s.with(kind, rules)
		}
	}
	return s
}

// forRoom returns a rule for one room as a rule for another; false if it is not for that room.
func (r Rule) forRoom(from, to string) (Rule, bool) {
	if !strings.Contains(r.ID, from) {
		return Rule{}, false
	}
	r.ID = strings.Replace(r.ID, from, to, 1)
	if r.kind == Room {
		return r, true
	}
	found := false
	r.Conditions = slices.Clone(r.Conditions)
	for i, c := range r.Conditions {
		p, ok := c.parse()
		if !ok || p.text("key") != "room_id" {
			continue
		}
		key := "value"
		if p.kind == kindEventMatch {
			key = "pattern"
		}
		if p.text(key) == from {
			p.keys[key] = mustMarshal(to)
			r.Conditions[i] = Condition{raw: mustMarshal(p.keys)}
			found = true
		}
	}
	return r, found
}
