package eventauth

import (
	"strconv"
	"strings"

	"stoa/matrix/roomversion"
)

// rule names one numbered line of the authorisation rules, whatever its number is in a room version.
type rule uint8

const (
	ruleCreate rule = iota
	ruleCreateHasPrevEvents
	ruleCreateRoomID
	ruleCreateUnknownVersion
	ruleCreateNoCreator
	ruleCreateAdditionalCreators
	ruleCreateAllow

	ruleRoomID

	ruleAuthEvents
	ruleAuthEventsDuplicate
	ruleAuthEventsNotSelected
	ruleAuthEventsRejected
	ruleAuthEventsNoCreate
	ruleAuthEventsOtherRoom

	ruleFederate

	ruleAliases
	ruleAliasesNoStateKey
	ruleAliasesOtherDomain
	ruleAliasesAllow

	ruleMember
	ruleMemberMalformed
	ruleMemberAuthorised
	ruleMemberAuthorisedUnsigned

	ruleJoin
	ruleJoinCreator
	ruleJoinNotSelf
	ruleJoinBanned
	ruleJoinInvited
	ruleJoinRestricted
	ruleJoinRestrictedInvited
	ruleJoinRestrictedAuthoriser
	ruleJoinRestrictedAllow
	ruleJoinPublic
	ruleJoinReject

	ruleInvite
	ruleInvite3PID
	ruleInvite3PIDBanned
	ruleInvite3PIDNoSigned
	ruleInvite3PIDMalformed
	ruleInvite3PIDOtherTarget
	ruleInvite3PIDNoToken
	ruleInvite3PIDOtherSender
	ruleInvite3PIDSigned
	ruleInvite3PIDReject
	ruleInviteSenderNotJoined
	ruleInviteTargetMember
	ruleInviteAllow
	ruleInviteReject

	ruleLeave
	ruleLeaveSelf
	ruleLeaveSenderNotJoined
	ruleLeaveUnban
	ruleLeaveKick
	ruleLeaveReject

	ruleBan
	ruleBanSenderNotJoined
	ruleBanAllow
	ruleBanReject

	ruleKnock
	ruleKnockJoinRule
	ruleKnockNotSelf
	ruleKnockAllow
	ruleKnockReject

	ruleMembershipUnknown

	ruleSenderNotJoined
	rule3PIDInvite
	rule3PIDInviteLevel
	ruleRequiredLevel
	ruleStateKeyOfOther

	rulePowerLevels
	rulePowerLevelsProperties
	rulePowerLevelsMaps
	rulePowerLevelsUsers
	rulePowerLevelsCreators
	rulePowerLevelsFirst
	rulePowerLevelsDefaults
	rulePowerLevelsDefaultsCurrent
	rulePowerLevelsDefaultsNew
	rulePowerLevelsMapsCurrent
	rulePowerLevelsMapsCurrentHigher
	rulePowerLevelsMapsNew
	rulePowerLevelsMapsNewHigher
	rulePowerLevelsUsersCurrent
	rulePowerLevelsUsersCurrentHigher
	rulePowerLevelsUsersNew
	rulePowerLevelsUsersNewHigher
	rulePowerLevelsAllow

	ruleRedaction
	ruleRedactionLevel
	ruleRedactionDomain
	ruleRedactionReject

	ruleAllow

	rules // how many there are
)

// line is one numbered line of the specification's lists: how deep it is nested, and which room versions have it.
type line struct {
	rule  rule
	depth int
	in    func(*roomversion.Rules) bool // nil: all
}

// book is the union of the lists of all room versions, in their order. A version's own list is what is left when the lines
// that it does not have are taken out, together with what is nested in them; numbers follow by counting.
//
// The numbers are those of the rendered pages. The source of rooms/v12 skips 3.4 and writes 10.10 twice; rendered, these
// lines are 3.4 and 10.11.
//
// Spec: rooms/v1#authorisation-rules, rooms/v6#authorisation-rules, rooms/v12#authorisation-rules
var book = []line{
	{ruleCreate, 1, nil},
	{ruleCreateHasPrevEvents, 2, nil},
	{ruleCreateRoomID, 2, nil},
	{ruleCreateUnknownVersion, 2, nil},
	{ruleCreateNoCreator, 2, func(r *roomversion.Rules) bool { return !r.CreatorIsSender }},
	{ruleCreateAdditionalCreators, 2, creatorsPrivileged},
	{ruleCreateAllow, 2, nil},

	{ruleRoomID, 1, roomIDFromCreate},

	{ruleAuthEvents, 1, nil},
	{ruleAuthEventsDuplicate, 2, nil},
	{ruleAuthEventsNotSelected, 2, nil},
	{ruleAuthEventsRejected, 2, nil},
	{ruleAuthEventsNoCreate, 2, func(r *roomversion.Rules) bool { return !r.RoomIDFromCreate }},
	{ruleAuthEventsOtherRoom, 2, nil},

	{ruleFederate, 1, nil},

	{ruleAliases, 1, func(r *roomversion.Rules) bool { return r.AliasesAuthRule }},
	{ruleAliasesNoStateKey, 2, nil},
	{ruleAliasesOtherDomain, 2, nil},
	{ruleAliasesAllow, 2, nil},

	{ruleMember, 1, nil},
	{ruleMemberMalformed, 2, nil},
	{ruleMemberAuthorised, 2, restrictedJoins},
	{ruleMemberAuthorisedUnsigned, 3, nil},
	{ruleJoin, 2, nil},
	{ruleJoinCreator, 3, nil},
	{ruleJoinNotSelf, 3, nil},
	{ruleJoinBanned, 3, nil},
	{ruleJoinInvited, 3, nil},
	{ruleJoinRestricted, 3, restrictedJoins},
	{ruleJoinRestrictedInvited, 4, nil},
	{ruleJoinRestrictedAuthoriser, 4, nil},
	{ruleJoinRestrictedAllow, 4, nil},
	{ruleJoinPublic, 3, nil},
	{ruleJoinReject, 3, nil},
	{ruleInvite, 2, nil},
	{ruleInvite3PID, 3, nil},
	{ruleInvite3PIDBanned, 4, nil},
	{ruleInvite3PIDNoSigned, 4, nil},
	{ruleInvite3PIDMalformed, 4, nil},
	{ruleInvite3PIDOtherTarget, 4, nil},
	{ruleInvite3PIDNoToken, 4, nil},
	{ruleInvite3PIDOtherSender, 4, nil},
	{ruleInvite3PIDSigned, 4, nil},
	{ruleInvite3PIDReject, 4, nil},
	{ruleInviteSenderNotJoined, 3, nil},
	{ruleInviteTargetMember, 3, nil},
	{ruleInviteAllow, 3, nil},
	{ruleInviteReject, 3, nil},
	{ruleLeave, 2, nil},
	{ruleLeaveSelf, 3, nil},
	{ruleLeaveSenderNotJoined, 3, nil},
	{ruleLeaveUnban, 3, nil},
	{ruleLeaveKick, 3, nil},
	{ruleLeaveReject, 3, nil},
	{ruleBan, 2, nil},
	{ruleBanSenderNotJoined, 3, nil},
	{ruleBanAllow, 3, nil},
	{ruleBanReject, 3, nil},
	{ruleKnock, 2, func(r *roomversion.Rules) bool { return r.Knocking }},
	{ruleKnockJoinRule, 3, nil},
	{ruleKnockNotSelf, 3, nil},
	{ruleKnockAllow, 3, nil},
	{ruleKnockReject, 3, nil},
	{ruleMembershipUnknown, 2, nil},

	{ruleSenderNotJoined, 1, nil},
	{rule3PIDInvite, 1, nil},
	{rule3PIDInviteLevel, 2, nil},
	{ruleRequiredLevel, 1, nil},
	{ruleStateKeyOfOther, 1, nil},

	{rulePowerLevels, 1, nil},
	{rulePowerLevelsProperties, 2, integerPowerLevels},
	{rulePowerLevelsMaps, 2, integerPowerLevels},
	{rulePowerLevelsUsers, 2, nil},
	{rulePowerLevelsCreators, 2, creatorsPrivileged},
	{rulePowerLevelsFirst, 2, nil},
	{rulePowerLevelsDefaults, 2, nil},
	{rulePowerLevelsDefaultsCurrent, 3, nil},
	{rulePowerLevelsDefaultsNew, 3, nil},
	{rulePowerLevelsMapsCurrent, 2, nil},
	{rulePowerLevelsMapsCurrentHigher, 3, nil},
	{rulePowerLevelsMapsNew, 2, nil},
	{rulePowerLevelsMapsNewHigher, 3, nil},
	{rulePowerLevelsUsersCurrent, 2, nil},
	{rulePowerLevelsUsersCurrentHigher, 3, nil},
	{rulePowerLevelsUsersNew, 2, nil},
	{rulePowerLevelsUsersNewHigher, 3, nil},
	{rulePowerLevelsAllow, 2, nil},

	{ruleRedaction, 1, func(r *roomversion.Rules) bool { return r.RedactionAuthRule }},
	{ruleRedactionLevel, 2, nil},
	{ruleRedactionDomain, 2, nil},
	{ruleRedactionReject, 2, nil},

	{ruleAllow, 1, nil},
}

func creatorsPrivileged(r *roomversion.Rules) bool { return r.CreatorsPrivileged }
func roomIDFromCreate(r *roomversion.Rules) bool   { return r.RoomIDFromCreate }
func restrictedJoins(r *roomversion.Rules) bool    { return r.RestrictedJoins }
func integerPowerLevels(r *roomversion.Rules) bool { return r.IntegerPowerLevels }

// numbers are the rule numbers of one room version, "" for what the version does not have.
type numbers [rules]string

// numbersOf holds the numbers of every row of package roomversion; it is filled once and never changed.
var numbersOf = func() map[*roomversion.Rules]*numbers {
	all := make(map[*roomversion.Rules]*numbers)
	for _, row := range roomversion.All() {
		all[row] = count(row)
	}
	return all
}()

// count numbers the lines that a room version has.
func count(row *roomversion.Rules) *numbers {
	const deepest = 4
	var (
		n       numbers
		counter [deepest + 1]int
		skip    = deepest + 1 // lines nested deeper than this are left out
	)
	for _, l := range book {
		if l.depth > skip {
			continue
		}
		skip = deepest + 1
		if l.in != nil && !l.in(row) {
			skip = l.depth
			continue
		}
		counter[l.depth]++
		clear(counter[l.depth+1:])
		parts := make([]string, l.depth)
		for i := range parts {
			parts[i] = strconv.Itoa(counter[i+1])
		}
		n[l.rule] = strings.Join(parts, ".")
	}
	return &n
}

// numbersFor returns the numbers of a row, also of one that is not in package roomversion.
func numbersFor(row *roomversion.Rules) *numbers {
	if n, ok := numbersOf[row]; ok {
		return n
	}
	return count(row)
}
