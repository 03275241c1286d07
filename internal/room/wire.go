package room

import (
	"errors"
	"strings"

	"stoa/internal/packed"
	"stoa/internal/store"
	"stoa/matrix/event"
	"stoa/matrix/id"
	"stoa/matrix/pushrule"
	"stoa/matrix/roomversion"
)

// AppendPacked appends the data that other instances need to serve a commit as this one
// does. It returns false if the format can't express the commit: then other instances
// read changes of the state, redactions and highlights from the store. members includes
// the SenderMembers, which double the size.
func (c *Committed) AppendPacked(dst []byte, members bool) ([]byte, bool) {
	if c.Next != nil || len(c.State) > 0 || len(c.Redacted) > 0 {
		return dst, false
	}
	p := packed.AppendNumber(dst, c.Room)
	p = packed.AppendText(packed.AppendText(p, c.RoomID.String()), c.Rules.Version)
	p = packed.AppendNumber(packed.AppendNumber(p, c.First), c.Last)
	p = packed.AppendNumber(packed.AppendNumber(p, c.Joined), c.Invited)
	p = packed.AppendNumber(p, len(c.Events))
	for i := range c.Events {
		e := &c.Events[i]
		if e.Off != 0 || e.Key != 0 || e.RedactedBy != nil || len(e.Highlights) > 0 {
			return dst, false
		}
		p = packed.AppendNumber(packed.AppendNumber(p, e.Num), e.Slot)
		p = packed.AppendNumber(p, e.Class)
		p = packed.AppendText(p, e.Totals.Append(nil))
		p = packed.AppendText(p, e.Thread.String())
		p = packed.AppendText(packed.AppendText(packed.AppendText(p, e.Txn.UserID.String()), e.Txn.DeviceID), e.Txn.ID)
		p = appendPDU(p, e.PDU)
		if !members || e.SenderMember == nil {
			p = packed.AppendNumber(p, 0)
			continue
		}
		m := e.SenderMember
		p = appendPDU(packed.AppendNumber(packed.AppendNumber(p, m.Num), m.Slot), m.PDU)
	}
	return p, true
}

// ParsePacked parses data from AppendPacked. It does not retain s. It sets no Totals of
// the room, no ReceivedTS, and no SenderMember that the caller knows.
func ParsePacked(s string, known func(store.EventNum) bool) (*Committed, error) {
	r := packed.Read(s)
	c := &Committed{Room: store.RoomNum(r.Number())}
	roomID, version := r.Text(), r.Text()
	c.First, c.Last = store.Slot(r.Number()), store.Slot(r.Number())
	c.Joined, c.Invited = int64(r.Number()), int64(r.Number())
	c.Events = make([]TimelineEvent, r.Count(11)) // the numbers and texts of each event
	var err error
	if c.RoomID, err = id.ParseRoomID(strings.Clone(roomID)); err != nil {
		return nil, errors.Join(packed.ErrMalformed, err)
	}
	rules, ok := roomversion.Of(version)
	if !ok {
		return nil, packed.ErrMalformed
	}
	c.Rules = rules
	for i := range c.Events {
		if err := c.Events[i].parse(r, rules, known); err != nil {
			return nil, errors.Join(packed.ErrMalformed, err)
		}
	}
	return c, r.Done()
}

func (e *TimelineEvent) parse(r *packed.Reader, rules *roomversion.Rules, known func(store.EventNum) bool) (err error) {
	e.Num, e.Slot = store.EventNum(r.Number()), store.Slot(r.Number())
	e.Class = pushrule.Class(r.Number())
	if e.Totals, err = ParseTotals([]byte(r.Text())); err != nil {
		return err
	}
	if thread := r.Text(); thread != "" {
		if e.Thread, err = id.ParseEventID(strings.Clone(thread)); err != nil {
			return err
		}
	}
	if user := r.Text(); user != "" {
		if e.Txn.UserID, err = id.ParseUserID(strings.Clone(user)); err != nil {
			return err
		}
	}
	e.Txn.DeviceID, e.Txn.ID = strings.Clone(r.Text()), strings.Clone(r.Text())
	if e.PDU, err = parsePDU(r, rules); err != nil {
		return err
	}
	m := &MemberEvent{Num: store.EventNum(r.Number())}
	if m.Num == 0 {
		return nil
	}
	m.Slot = store.Slot(r.Number())
	if known(m.Num) {
		r.Text()
		r.Text()
		return nil
	}
	e.SenderMember = m
	m.PDU, err = parsePDU(r, rules)
	return err
}

func appendPDU(p []byte, pdu *event.PDU) []byte {
	return packed.AppendText(packed.AppendText(p, pdu.EventID().String()), pdu.Bytes())
}

func parsePDU(r *packed.Reader, rules *roomversion.Rules) (*event.PDU, error) {
	eventID, err := id.ParseEventID(strings.Clone(r.Text()))
	if err != nil {
		return nil, err
	}
	return event.Load(rules, eventID, []byte(r.Text()))
}
