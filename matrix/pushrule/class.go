package pushrule

// Class says which default rules match an event for anyone: for a recipient who is not its sender and whom it does not
// mention. The rules are meant as shipped, each as if it were enabled. ClassNone is an event that counts for nobody.
//
// It is a set of bits that is stored in totals. A bit is never given another meaning; a new default rule gets a new bit.
type Class uint16

// The bits of a class. Those of frequent events fit the seven bits of a one-byte varint.
const (
	classCounted      Class = 1 << iota // the event counts at all
	classMessage                        // .m.rule.message
	classEncrypted                      // .m.rule.encrypted
	classOneToOne                       // .m.rule.room_one_to_one and the like, after the type
	classEdit                           // .m.rule.suppress_edits
	classReaction                       // .m.rule.reaction
	classMember                         // .m.rule.member_event
	classNotice                         // .m.rule.suppress_notices
	classRoomMention                    // .m.rule.is_room_mention
	classTombstone                      // .m.rule.tombstone
	classServerACL                      // .m.rule.room.server_acl
	classCall                           // .m.rule.call
	classPollResponse                   // .org.matrix.msc3930.rule.poll_response
	classPollStart                      // .org.matrix.msc3930.rule.poll_start; with classOneToOne …_one_to_one
	classPollEnd                        // .org.matrix.msc3930.rule.poll_end; likewise
	classRTCInvite                      // .org.matrix.msc4075.rule.rtc.invite_for_room, with classRoomMention
)

// ClassNone is the class of an event that counts for nobody, because it has no place in the room's timeline.
const ClassNone Class = 0

// classTypes are the bits that follow from the type of the event; at most one is set.
const classTypes = classMessage | classEncrypted | classReaction | classMember | classTombstone | classServerACL | classCall |
	classPollResponse | classPollStart | classPollEnd | classRTCInvite

// classOneToOneTypes are the types that have another rule in rooms of two.
const classOneToOneTypes = classMessage | classEncrypted | classPollStart | classPollEnd

// MaxClasses is the number of classes that exist, ClassNone not counted.
const MaxClasses = 128

// allClasses holds every class that an event can have, without ClassNone.
var allClasses = func() []Class {
	types := []Class{
		0, classReaction, classMember, classTombstone, classServerACL, classCall,
		classMessage, classEncrypted, classMessage | classOneToOne, classEncrypted | classOneToOne,
		classPollResponse, classPollStart, classPollEnd, classPollStart | classOneToOne, classPollEnd | classOneToOne, classRTCInvite,
	}
	classes := make([]Class, 0, MaxClasses)
	for _, t := range types {
		for marks := range 8 {
			c := classCounted | t
			for i, mark := range []Class{classEdit, classNotice, classRoomMention} {
				if marks>>i&1 == 1 {
					c |= mark
				}
			}
			classes = append(classes, c)
		}
	}
	return classes
}()

// has says whether the class has all of some bits.
func (c Class) has(bits Class) bool { return c&bits == bits }

// Verdict is what rules make of an event for one member. A greater one implies the smaller.
type Verdict uint8

const (
	// Silent events are not counted as unread.
	Silent Verdict = iota
	// Notifies counts the event in notification_count.
	Notifies
	// Highlights counts it in highlight_count too.
	Highlights
)

// Unread are the counts of unread events that a client gets.
//
// Spec: client-server-api#receiving-notifications
type Unread struct {
	Notifications int64
	Highlights    int64
}

// Add counts events that all have one verdict.
func (u *Unread) Add(v Verdict, events int64) {
	if v >= Notifies {
		u.Notifications += events
	}
	if v >= Highlights {
		u.Highlights += events
	}
}
