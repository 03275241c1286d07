package eventauth

import (
	"testing"

	"stoa/matrix/event"
	"stoa/matrix/roomversion"
)

func BenchmarkCheck(b *testing.B) {
	for _, version := range []string{"11", "12"} {
		rules, _ := roomversion.Of(version)
		f := newFixture(b, rules)
		f.join(alice)
		f.joinRule("public")
		f.levels(object{"events": object{"m.room.name": 50, "m.room.topic": 50}}, alice, 50, bob, 10)
		for name, ev := range map[string]*event.PDU{
			"message": f.message(alice), "join": f.member(bob, bob, "join"), "kick": f.member(alice, zoe, "leave"),
			"levels": f.build(event.TypePowerLevels, ptr(""), alice, f.levelContent(nil, alice, 50)),
		} {
			b.Run("v"+version+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Check(ev, f.state); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
