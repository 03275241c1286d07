package room

import (
	"testing"

	"stoa/matrix/pushrule"
)

func TestCheckTotals(t *testing.T) {
	t.Parallel()
	class := pushrule.Class(1)
	var none, one, two Totals
	one.add(class, true)
	two.add(class, true)
	two.add(class, false)
	for name, c := range map[string]struct {
		before, after Totals
		fine          bool
	}{
		"allows_growth":     {one, two, true},
		"allows_the_same":   {two, two, true},
		"refuses_less":      {two, one, false},
		"refuses_no_longer": {one, none, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := CheckTotals(c.before.Append(nil), c.after.Append(nil)); (err == nil) != c.fine {
				t.Error(err)
			}
		})
	}
	if CheckTotals([]byte("?"), nil) == nil {
		t.Error("took a form that does not exist")
	}
}
