package eventauth

import (
	"stoa/matrix/event"
	"stoa/matrix/roomversion"
)

func powerLevelCases() []ruleCase {
	// change makes a case in which alice, of level 50, changes content old to content new. Both have users besides.
	change := func(old, new object, users ...any) func(f *fixture) *event.PDU {
		return func(f *fixture) *event.PDU {
			f.join(alice)
			both := append([]any{alice, 50}, users...)
			f.levels(old, both...)
			return f.build(event.TypePowerLevels, ptr(""), alice, f.levelContent(new, both...))
		}
	}
	changeUsers := func(old, new []any) func(f *fixture) *event.PDU {
		return func(f *fixture) *event.PDU {
			f.join(alice)
			f.levels(nil, old...)
			return f.build(event.TypePowerLevels, ptr(""), alice, f.levelContent(nil, new...))
		}
	}
	content := func(text string) func(f *fixture) *event.PDU {
		return func(f *fixture) *event.PDU {
			return f.build(event.TypePowerLevels, ptr(""), carol, jsonObject(f.t, text))
		}
	}
	lenient := not(integerPowerLevels)
	// strings may be levels before version 10, floats before version 6.
	floats := func(r *roomversion.Rules) bool { return !r.StrictCanonicalJSON }
	notifications := func(r *roomversion.Rules) bool { return r.NotificationLevels }

	cases := []ruleCase{
		{rule: rulePowerLevelsMaps, says: "`events` or `notifications`", name: "events that are no object", make: content(`{"events":[]}`)},
		{rule: rulePowerLevelsMaps, says: "`events` or `notifications`", name: "a level of an event that is a string",
			make: content(`{"events":{"m.room.name":"50"}}`)},
		{rule: rulePowerLevelsMaps, says: "`events` or `notifications`", name: "a level of a notification that is null",
			when: notifications, make: content(`{"notifications":{"room":null}}`)},
		{rule: rulePowerLevelsAllow, says: "Otherwise, allow", allow: true, when: not(notifications), name: "a level of a notification that is null, unseen",
			make: change(nil, object{"notifications": object{"room": nil}})},
		{rule: rulePowerLevelsUsers, says: "`users` property in `content` is not an object", name: "users that are no object",
			make: content(`{"users":[]}`)},
		{rule: rulePowerLevelsUsers, says: "`users` property in `content` is not an object", name: "a user that is none",
			make: content(`{"users":{"alice":1}}`)},
		{rule: rulePowerLevelsUsers, says: "`users` property in `content` is not an object", name: "a user with a word as level",
			make: content(`{"users":{"@alice:a.example":"high"}}`)},
		{rule: rulePowerLevelsUsers, says: "`users` property in `content` is not an object", name: "a user with no level",
			make: content(`{"users":{"@alice:a.example":null}}`)},
		{rule: rulePowerLevelsUsers, says: "`users` property in `content` is not an object", name: "a user with a string as level",
			when: integerPowerLevels, make: content(`{"users":{"@alice:a.example":"50"}}`)},
		{rule: rulePowerLevelsFirst, says: "no previous `m.room.power_levels`", allow: true, name: "a user with a string as level",
			when: lenient, make: content(`{"users":{"@alice:a.example":" +050 "},"ban":"-1"}`)},
		{rule: rulePowerLevelsFirst, says: "no previous `m.room.power_levels`", allow: true, name: "a user with a float as level",
			when: floats, make: content(`{"users":{"@alice:a.example":50.57},"ban":5.1e1}`)},
		{rule: rulePowerLevelsUsers, says: "`users` property in `content` is not an object", name: "a level that is a word",
			when: lenient, make: content(`{"ban":"high"}`)},

		{rule: rulePowerLevelsCreators, says: "contains the `sender` of the `m.room.create`", name: "naming the creator",
			make: content(`{"users":{"@carol:c.example":100}}`)},
		{rule: rulePowerLevelsCreators, says: "contains the `sender` of the `m.room.create`", name: "naming an additional creator",
			create: object{"additional_creators": []any{dora}}, make: content(`{"users":{"@dora:c.example":0}}`)},

		{rule: rulePowerLevelsFirst, says: "no previous `m.room.power_levels`", allow: true, name: "the first levels",
			make: content(`{"users":{"@alice:a.example":1000},"ban":1000}`)},

		{rule: rulePowerLevelsMapsCurrentHigher, says: "current value is greater than", name: "lowering the level of an event above one's own",
			make: change(object{"events": object{"m.room.name": 51}}, object{"events": object{"m.room.name": 50}})},
		{rule: rulePowerLevelsMapsCurrentHigher, says: "current value is greater than", name: "removing the level of an event above one's own",
			make: change(object{"events": object{"m.room.name": 51}}, nil)},
		{rule: rulePowerLevelsMapsNewHigher, says: "new value is greater than", name: "setting the level of an event above one's own",
			make: change(nil, object{"events": object{"m.room.name": 51}})},
		{rule: rulePowerLevelsMapsNewHigher, says: "new value is greater than", name: "raising the level of an event above one's own",
			make: change(object{"events": object{"m.room.name": 50}}, object{"events": object{"m.room.name": 51}})},
		{rule: rulePowerLevelsAllow, says: "Otherwise, allow", allow: true, name: "raising the level of an event to one's own",
			make: change(object{"events": object{"m.room.name": 49}}, object{"events": object{"m.room.name": 50}})},
		{rule: rulePowerLevelsAllow, says: "Otherwise, allow", allow: true, name: "leaving what is above one's own",
			make: change(object{"events": object{"m.room.name": 90}, "ban": 90}, object{"events": object{"m.room.name": 90}, "ban": 90, "kick": 10})},

		{rule: rulePowerLevelsMapsCurrentHigher, says: "current value is greater than", when: notifications,
			name: "removing the level of a notification above one's own",
			make: change(object{"notifications": object{"room": 51}}, object{"notifications": object{}})},
		{rule: rulePowerLevelsMapsNewHigher, says: "new value is greater than", when: notifications,
			name: "setting the level of a notification above one's own",
			make: change(nil, object{"notifications": object{"room": 51}})},
		{rule: rulePowerLevelsAllow, says: "Otherwise, allow", allow: true, when: not(notifications),
			name: "setting the level of a notification above one's own",
			make: change(nil, object{"notifications": object{"room": 51}})},

		{rule: rulePowerLevelsUsersCurrentHigher, says: "greater than or equal to", name: "lowering an equal",
			make: changeUsers([]any{alice, 50, bob, 50}, []any{alice, 50, bob, 49})},
		{rule: rulePowerLevelsUsersCurrentHigher, says: "greater than or equal to", name: "removing somebody higher",
			make: changeUsers([]any{alice, 50, bob, 51}, []any{alice, 50})},
		{rule: rulePowerLevelsUsersNewHigher, says: "new value is greater than", name: "raising somebody above oneself",
			make: changeUsers([]any{alice, 50, bob, 49}, []any{alice, 50, bob, 51})},
		{rule: rulePowerLevelsUsersNewHigher, says: "new value is greater than", name: "adding somebody above oneself",
			make: changeUsers([]any{alice, 50}, []any{alice, 50, bob, 51})},
		{rule: rulePowerLevelsUsersNewHigher, says: "new value is greater than", name: "raising oneself",
			make: changeUsers([]any{alice, 50}, []any{alice, 51})},
		{rule: rulePowerLevelsAllow, says: "Otherwise, allow", allow: true, name: "raising somebody to one's own level",
			make: changeUsers([]any{alice, 50, bob, 49}, []any{alice, 50, bob, 50})},
		{rule: rulePowerLevelsAllow, says: "Otherwise, allow", allow: true, name: "lowering oneself",
			make: changeUsers([]any{alice, 50}, []any{alice, 10})},
		{rule: rulePowerLevelsAllow, says: "Otherwise, allow", allow: true, name: "removing oneself",
			make: changeUsers([]any{alice, 50}, nil)},
		{rule: rulePowerLevelsAllow, says: "Otherwise, allow", allow: true, name: "whatever a creator likes", when: creatorsPrivileged,
			make: func(f *fixture) *event.PDU {
				f.levels(object{"ban": 9007199254740991}, alice, 9007199254740991)
				return f.build(event.TypePowerLevels, ptr(""), carol, object{"kick": 9007199254740991})
			}},
		{rule: rulePowerLevelsAllow, says: "Otherwise, allow", allow: true, name: "writing a level as a string", when: lenient,
			make: change(object{"ban": 90}, object{"ban": "90"})},
	}
	for _, property := range []string{"users_default", "events_default", "state_default", "ban", "redact", "kick", "invite"} {
		// A case may change nothing else; what is needed to send the event must stay at or below 50.
		fits := func(level int) object { return object{property: level, "events": object{event.TypePowerLevels: 50}} }
		without := object{"events": object{event.TypePowerLevels: 50}}
		cases = append(cases,
			ruleCase{rule: rulePowerLevelsProperties, says: "are present and not an integer", name: property + " that is a string",
				make: content(`{"` + property + `":"50"}`)},
			ruleCase{rule: rulePowerLevelsProperties, says: "are present and not an integer", name: property + " that is null",
				make: content(`{"` + property + `":null}`)},
			ruleCase{rule: rulePowerLevelsDefaultsNew, says: "new value is", name: "raising " + property + " above one's own level",
				make: change(fits(50), fits(51))},
			ruleCase{rule: rulePowerLevelsDefaultsNew, says: "new value is", name: "adding " + property + " above one's own level",
				make: change(without, fits(51))},
			ruleCase{rule: rulePowerLevelsAllow, says: "Otherwise, allow", allow: true, name: "raising " + property + " to one's own level",
				make: change(fits(49), fits(50))},
			ruleCase{rule: rulePowerLevelsDefaultsCurrent, says: "current value is", name: "lowering " + property + " from above one's own level",
				make: change(fits(51), fits(50))},
			ruleCase{rule: rulePowerLevelsDefaultsCurrent, says: "current value is", name: "removing " + property + " above one's own level",
				make: change(fits(51), without)},
		)
	}
	return cases
}
