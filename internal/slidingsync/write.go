package slidingsync

import (
	"strconv"

	"stoa/internal/store/roomdb"
	"stoa/internal/streamcache"
	"stoa/internal/timeline"
	"stoa/matrix/canonicaljson"
	"stoa/matrix/event"
)

func appendString(b []byte, text string) []byte { return canonicaljson.AppendString(b, text) }

// text, number and flag append members of an object.
func (b *builder) text(key, value string) {
	b.out = appendString(streamcache.AppendKey(b.out, key), value)
}

func (b *builder) number(key string, n int64) {
	b.out = strconv.AppendInt(streamcache.AppendKey(b.out, key), n, 10)
}

func (b *builder) flag(key string) { b.out = append(streamcache.AppendKey(b.out, key), "true"...) }

// textOrNull appends a text, or null for an empty one.
func (b *builder) textOrNull(key, value string) {
	if value != "" {
		b.text(key, value)
		return
	}
	b.out = append(streamcache.AppendKey(b.out, key), "null"...)
}

// roomWriter appends the rooms of an answer.
type roomWriter struct{ *builder }

// appendLists appends how many rooms each list has.
func (b roomWriter) appendLists() {
	if len(b.cfg.Lists) == 0 {
		return
	}
	b.out = append(streamcache.AppendKey(b.out, "lists"), '{')
	for i := range b.cfg.Lists {
		b.out = append(streamcache.AppendKey(b.out, b.cfg.Lists[i].Name), '{')
		b.number("count", int64(b.counts[i]))
		b.out = append(b.out, '}')
	}
	b.out = append(b.out, '}')
}

// appendPart appends one room.
func (b roomWriter) appendPart(p *part) {
	b.out = append(streamcache.AppendKey(b.out, p.id), '{')
	if b.cfg.Stable {
		b.text("membership", membershipName(p.membership))
		b.appendListNames(p)
	}
	if p.initial || p.stripped || p.left && !p.known {
		b.flag("initial")
	}
	if p.bump != 0 {
		b.number("bump_stamp", int64(p.bump))
	}
	if p.dm {
		b.flag("is_dm")
	} else if p.dmChanged {
		b.out = append(streamcache.AppendKey(b.out, "is_dm"), "false"...)
	}
	if p.stripped {
		key := "invite_state"
		if b.cfg.Stable {
			key = "stripped_state"
		}
		stripped := p.row.Stripped
		if stripped == "" {
			stripped = "[]"
		}
		b.out = append(append(streamcache.AppendKey(b.out, key), stripped...), '}')
		return
	}
	b.appendSummary(p)
	b.appendState(p)
	b.appendTimeline(p)
	b.out = append(b.out, '}')
}

func membershipName(m roomdb.Membership) string {
	switch m {
	case roomdb.Join:
		return event.MembershipJoin
	case roomdb.Invite:
		return event.MembershipInvite
	case roomdb.Knock:
		return event.MembershipKnock
	case roomdb.Ban:
		return event.MembershipBan
	}
	return event.MembershipLeave
}

func (b roomWriter) appendListNames(p *part) {
	if len(p.asked.lists) == 0 {
		return
	}
	b.out = append(streamcache.AppendKey(b.out, "lists"), '[')
	for _, i := range p.asked.lists {
		b.out = appendString(streamcache.Separate(b.out), b.cfg.Lists[i].Name)
	}
	b.out = append(b.out, ']')
}

// appendSummary appends what clients need to name the room. A name or an avatar that is gone is null, or left out of a room that begins
// anew.
func (b roomWriter) appendSummary(p *part) {
	if p.name != nil && (*p.name != "" || !p.initial) {
		b.textOrNull("name", *p.name)
	}
	if p.avatar != nil && (*p.avatar != "" || !p.initial) {
		b.textOrNull("avatar", *p.avatar)
	}
	if p.withHeroes {
		b.out = append(streamcache.AppendKey(b.out, "heroes"), '[')
		for _, hero := range p.heroes {
			b.out = append(streamcache.Separate(b.out), '{')
			b.text("user_id", hero.StateKey)
			if name := textOf(hero, "displayname"); name != "" {
				b.text("displayname", name)
			}
			if avatar := textOf(hero, "avatar_url"); avatar != "" {
				b.text("avatar_url", avatar)
			}
			b.out = append(b.out, '}')
		}
		b.out = append(b.out, ']')
	}
	if p.counted {
		b.number("joined_count", p.joinedCount)
		b.number("invited_count", p.invited)
	}
}

func (b roomWriter) appendState(p *part) {
	if len(p.state)+len(p.removed) == 0 {
		return
	}
	mark := len(b.out)
	b.out = append(streamcache.AppendKey(b.out, "required_state"), '[')
	begin := len(b.out)
	for _, ev := range p.state {
		b.out = ev.Append(streamcache.Separate(b.out), &b.reader, b.show(p, ev, nil))
	}
	if b.cfg.Stable {
		for _, gone := range p.removed {
			b.out = append(streamcache.Separate(b.out), '{')
			b.text("type", gone.Type)
			b.text("state_key", gone.StateKey)
			b.out = append(b.out, '}')
		}
	}
	if len(b.out) == begin {
		b.out = b.out[:mark]
		return
	}
	b.out = append(b.out, ']')
}

func (b roomWriter) appendTimeline(p *part) {
	if p.quiet && !p.initial && !p.expanded {
		return
	}
	if p.expanded {
		key := "unstable_expanded_timeline"
		if b.cfg.Stable {
			key = "expanded_timeline"
		}
		b.flag(key)
	}
	var bundles map[string]*timeline.Bundle
	if p.limited || p.initial || p.expanded {
		for eventID, bundle := range timeline.BundleWithin(p.events, &b.reader) {
			if bundles == nil {
				bundles = map[string]*timeline.Bundle{}
			}
			bundles[eventID.String()] = bundle
		}
	}
	live := int64(0)
	b.out = append(streamcache.AppendKey(b.out, "timeline"), '[')
	for _, ev := range p.events {
		b.out = ev.Append(streamcache.Separate(b.out), &b.reader, b.show(p, ev, bundles[ev.ID.String()]))
		if !b.first && ev.Slot > p.live && ev.Off == 0 {
			live++
		}
	}
	b.out = append(b.out, ']')
	if p.limited {
		b.flag("limited")
	}
	b.number("num_live", live)
	if p.upto > 0 {
		b.text("prev_batch", p.prevBatch().String())
	}
}

// show returns what the viewer sees of an event beside its client form.
func (b roomWriter) show(p *part, ev *timeline.Event, bundle *timeline.Bundle) timeline.Show {
	s, ok := p.shows[ev.Num]
	if !ok {
		if p.joinedAt != 0 && ev.Slot >= p.joinedAt {
			s.Membership = event.MembershipJoin
		}
		if ev.Replaced != nil {
			s.SeesReplaced = p.joinedAt != 0 && ev.Replaced.Slot >= p.joinedAt || p.joined && b.r.kept.Openness(p.num) == streamcache.OpenToMembers
		}
	}
	s.Bundle = bundle
	return s
}
