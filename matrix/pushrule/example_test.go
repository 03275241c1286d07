package pushrule_test

import (
	"fmt"

	"stoa/matrix/id"
	"stoa/matrix/pushrule"
)

// Example counts what is unread for a member of a room: when an event is sent, its class is added to the running totals of
// the room, and Watch says who gets a row; when someone reads, totals are subtracted and rows added.
func Example() {
	roomID, err := id.ParseRoomID("!room:example.org")
	if err != nil {
		panic(err)
	}
	watch := pushrule.NewWatch(roomID, func(id.UserID) bool { return true })

	var totals pushrule.Totals // of the room, stored with each event
	var rows []pushrule.Raised // of all members, since alice has read
	for _, content := range []string{
		`{"body":"hello"}`,
		`{"body":"alice?","m.mentions":{"user_ids":["@alice:example.org"]}}`,
		`{"body":"beep","msgtype":"m.notice"}`,
	} {
		event := pushrule.NewEvent(pushrule.Fields{
			Type: "m.room.message", Sender: "@bob:example.org", RoomID: roomID.String(), Content: []byte(content),
		}, pushrule.Facts{MemberCount: 3})
		totals.Add(event.Class())
		rows = append(rows, watch.Raised(event)...)
	}

	counter := pushrule.UsualRules().In(roomID)
	unread := counter.Count(totals.Minus(pushrule.Totals{}))
	for _, row := range rows {
		counter.CountRaised(&unread, row.Class, row.Verdict)
	}
	fmt.Println(unread.Notifications, unread.Highlights)
	// Output: 2 1
}
