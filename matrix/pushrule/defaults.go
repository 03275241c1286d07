package pushrule

import (
	"encoding/json"
	"strings"

	"stoa/matrix/id"
)

// IDs of the default rules.
//
// Spec: client-server-api#predefined-rules
const (
	RuleMaster                = ".m.rule.master"
	RuleSuppressNotices       = ".m.rule.suppress_notices"
	RuleInviteForMe           = ".m.rule.invite_for_me"
	RuleMemberEvent           = ".m.rule.member_event"
	RuleIsUserMention         = ".m.rule.is_user_mention"
	RuleIsRoomMention         = ".m.rule.is_room_mention"
	RuleTombstone             = ".m.rule.tombstone"
	RuleReaction              = ".m.rule.reaction"
	RuleRoomServerACL         = ".m.rule.room.server_acl"
	RuleSuppressEdits         = ".m.rule.suppress_edits"
	RuleCall                  = ".m.rule.call"
	RuleEncryptedRoomOneToOne = ".m.rule.encrypted_room_one_to_one"
	RuleRoomOneToOne          = ".m.rule.room_one_to_one"
	RuleMessage               = ".m.rule.message"
	RuleEncrypted             = ".m.rule.encrypted"

	// These are of proposals that clients rely on. Their stable names come with the specification.
	RulePollResponse      = ".org.matrix.msc3930.rule.poll_response"
	RulePollStartOneToOne = ".org.matrix.msc3930.rule.poll_start_one_to_one"
	RulePollStart         = ".org.matrix.msc3930.rule.poll_start"
	RulePollEndOneToOne   = ".org.matrix.msc3930.rule.poll_end_one_to_one"
	RulePollEnd           = ".org.matrix.msc3930.rule.poll_end"
	RuleRTCInviteForMe    = ".org.matrix.msc4075.rule.rtc.invite_for_me"
	RuleRTCInviteForRoom  = ".org.matrix.msc4075.rule.rtc.invite_for_room"
)

// defaultRule is a row of the table of default rules. What its conditions say about an event is in bits, the bits of a
// class, or, where the conditions name the user, in trigger.
type defaultRule struct {
	kind       Kind
	id         string
	disabled   bool
	conditions []string
	actions    []Action
	bits       Class
	trigger    trigger
}

// userIDPlaceholder stands in the conditions of default rules for the JSON text of the user's ID.
const userIDPlaceholder = "[the user's Matrix ID]"

var (
	soundDefault = setTweak("sound", `"default"`)
	soundRing    = setTweak("sound", `"ring"`)
	highlight    = setTweak("highlight", "")
)

// defaultRules are the rules that every user has, in order within each kind. The user's own rules of the kind come before
// them, except before the first of all, .m.rule.master.
//
// Spec: client-server-api#predefined-rules
var defaultRules = []defaultRule{
	{
		kind: Override, id: RuleMaster, disabled: true,
		bits: classCounted,
	},
	{
		kind: Override, id: RuleSuppressNotices,
		conditions: []string{`{"kind":"event_match","key":"content.msgtype","pattern":"m.notice"}`},
		bits:       classNotice,
	},
	{
		kind: Override, id: RuleInviteForMe,
		conditions: []string{
			`{"kind":"event_match","key":"type","pattern":"m.room.member"}`,
			`{"kind":"event_match","key":"content.membership","pattern":"invite"}`,
			`{"kind":"event_match","key":"state_key","pattern":` + userIDPlaceholder + `}`,
		},
		actions: []Action{notify, soundDefault},
		trigger: onInvite,
	},
	{
		kind: Override, id: RuleMemberEvent,
		conditions: []string{`{"kind":"event_match","key":"type","pattern":"m.room.member"}`},
		bits:       classMember,
	},
	{
		kind: Override, id: RuleRTCInviteForMe,
		conditions: []string{
			`{"kind":"event_match","key":"type","pattern":"org.matrix.msc4075.rtc.invite"}`,
			`{"kind":"event_property_contains","key":"content.m\\.mentions.user_ids","value":` + userIDPlaceholder + `}`,
		},
		actions: []Action{notify, soundRing},
		bits:    classRTCInvite,
		trigger: onMention,
	},
	{
		kind: Override, id: RuleIsUserMention,
		conditions: []string{
			`{"kind":"event_property_contains","key":"content.m\\.mentions.user_ids","value":` + userIDPlaceholder + `}`,
		},
		actions: []Action{notify, soundDefault, highlight},
		trigger: onMention,
	},
	{
		kind: Override, id: RuleRTCInviteForRoom,
		conditions: []string{
			`{"kind":"event_match","key":"type","pattern":"org.matrix.msc4075.rtc.invite"}`,
			`{"kind":"event_property_is","key":"content.m\\.mentions.room","value":true}`,
			`{"kind":"sender_notification_permission","key":"room"}`,
		},
		actions: []Action{notify, soundRing},
		bits:    classRTCInvite | classRoomMention,
	},
	{
		kind: Override, id: RuleIsRoomMention,
		conditions: []string{
			`{"kind":"event_property_is","key":"content.m\\.mentions.room","value":true}`,
			`{"kind":"sender_notification_permission","key":"room"}`,
		},
		actions: []Action{notify, highlight},
		bits:    classRoomMention,
	},
	{
		kind: Override, id: RuleTombstone,
		conditions: []string{
			`{"kind":"event_match","key":"type","pattern":"m.room.tombstone"}`,
			`{"kind":"event_match","key":"state_key","pattern":""}`,
		},
		actions: []Action{notify, highlight},
		bits:    classTombstone,
	},
	{
		kind: Override, id: RuleReaction,
		conditions: []string{`{"kind":"event_match","key":"type","pattern":"m.reaction"}`},
		bits:       classReaction,
	},
	{
		kind: Override, id: RuleRoomServerACL,
		conditions: []string{
			`{"kind":"event_match","key":"type","pattern":"m.room.server_acl"}`,
			`{"kind":"event_match","key":"state_key","pattern":""}`,
		},
		bits: classServerACL,
	},
	{
		kind: Override, id: RulePollResponse,
		conditions: []string{`{"kind":"event_match","key":"type","pattern":"org.matrix.msc3381.poll.response"}`},
		bits:       classPollResponse,
	},
	{
		kind: Override, id: RuleSuppressEdits,
		conditions: []string{`{"kind":"event_property_is","key":"content.m\\.relates_to.rel_type","value":"m.replace"}`},
		bits:       classEdit,
	},
	{
		kind: Underride, id: RuleCall,
		conditions: []string{`{"kind":"event_match","key":"type","pattern":"m.call.invite"}`},
		actions:    []Action{notify, soundRing},
		bits:       classCall,
	},
	{
		kind: Underride, id: RuleEncryptedRoomOneToOne,
		conditions: []string{
			`{"kind":"room_member_count","is":"2"}`,
			`{"kind":"event_match","key":"type","pattern":"m.room.encrypted"}`,
		},
		actions: []Action{notify, soundDefault},
		bits:    classEncrypted | classOneToOne,
	},
	{
		kind: Underride, id: RuleRoomOneToOne,
		conditions: []string{
			`{"kind":"room_member_count","is":"2"}`,
			`{"kind":"event_match","key":"type","pattern":"m.room.message"}`,
		},
		actions: []Action{notify, soundDefault},
		bits:    classMessage | classOneToOne,
	},
	{
		kind: Underride, id: RuleMessage,
		conditions: []string{`{"kind":"event_match","key":"type","pattern":"m.room.message"}`},
		actions:    []Action{notify},
		bits:       classMessage,
	},
	{
		kind: Underride, id: RuleEncrypted,
		conditions: []string{`{"kind":"event_match","key":"type","pattern":"m.room.encrypted"}`},
		actions:    []Action{notify},
		bits:       classEncrypted,
	},
	{
		kind: Underride, id: RulePollStartOneToOne,
		conditions: []string{
			`{"kind":"room_member_count","is":"2"}`,
			`{"kind":"event_match","key":"type","pattern":"org.matrix.msc3381.poll.start"}`,
		},
		actions: []Action{notify, soundDefault},
		bits:    classPollStart | classOneToOne,
	},
	{
		kind: Underride, id: RulePollStart,
		conditions: []string{`{"kind":"event_match","key":"type","pattern":"org.matrix.msc3381.poll.start"}`},
		actions:    []Action{notify},
		bits:       classPollStart,
	},
	{
		kind: Underride, id: RulePollEndOneToOne,
		conditions: []string{
			`{"kind":"room_member_count","is":"2"}`,
			`{"kind":"event_match","key":"type","pattern":"org.matrix.msc3381.poll.end"}`,
		},
		actions: []Action{notify, soundDefault},
		bits:    classPollEnd | classOneToOne,
	},
	{
		kind: Underride, id: RulePollEnd,
		conditions: []string{`{"kind":"event_match","key":"type","pattern":"org.matrix.msc3381.poll.end"}`},
		actions:    []Action{notify},
		bits:       classPollEnd,
	},
}

// findDefault returns the default rule of a kind and ID.
func findDefault(kind Kind, ruleID string) (*defaultRule, bool) {
	for i := range defaultRules {
		if d := &defaultRules[i]; d.kind == kind && d.id == ruleID {
			return d, true
		}
	}
	return nil, false
}

// rule returns the rule as a user has it who did not change it.
func (d *defaultRule) rule(user id.UserID) Rule {
	r := Rule{ID: d.id, Default: true, Enabled: !d.disabled, Actions: d.actions, kind: d.kind}
	if r.Actions == nil {
		r.Actions = []Action{}
	}
	for _, text := range d.conditions {
		text = strings.Replace(text, userIDPlaceholder, string(mustMarshal(user.String())), 1)
		r.Conditions = append(r.Conditions, Condition{raw: json.RawMessage(text)})
	}
	return r
}
