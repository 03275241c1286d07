package roomversion_test

import (
	"reflect"
	"strings"
	"testing"

	"stoa/matrix/roomversion"
)

// since says from which version on a rule holds, and up to which, as the specification's pages tell it.
type since struct{ first, last int }

// Spec: rooms#complete-list-of-room-versions, rooms#feature-matrix
func TestRowsSayWhatTheSpecificationSays(t *testing.T) {
	t.Parallel()
	flags := map[string]since{
		"Stable":                  {1, 12},
		"RedactionAuthRule":       {1, 2},
		"AliasesAuthRule":         {1, 5},
		"StrictSignatureValidity": {5, 12},
		"StrictCanonicalJSON":     {6, 12},
		"NotificationLevels":      {6, 12},
		"Knocking":                {7, 12},
		"RestrictedJoins":         {8, 12},
		"KnockRestrictedJoins":    {10, 12},
		"IntegerPowerLevels":      {10, 12},
		"CreatorIsSender":         {11, 12},
		"RedactsInContent":        {11, 12},
		"CreatorsPrivileged":      {12, 12},
		"RoomIDFromCreate":        {12, 12},
	}
	all := roomversion.All()
	if len(all) != 12 {
		t.Fatalf("there are %d versions", len(all))
	}
	for i, rules := range all {
		version := i + 1
		row := reflect.ValueOf(*rules)
		for j := range row.NumField() {
			name := row.Type().Field(j).Name
			if row.Field(j).Kind() != reflect.Bool {
				continue
			}
			want, listed := flags[name]
			if !listed {
				t.Fatalf("the test does not know the rule %s", name)
			}
			if got := row.Field(j).Bool(); got != (want.first <= version && version <= want.last) {
				t.Errorf("version %d: %s is %v", version, name, got)
			}
		}
	}
}

func TestRowsHaveFormatsAndAlgorithms(t *testing.T) {
	t.Parallel()
	type row struct {
		event     roomversion.EventFormat
		id        roomversion.EventIDFormat
		res       roomversion.StateRes
		redaction roomversion.Redaction
	}
	want := map[string]row{
		"1":  {roomversion.EventFormatV1, roomversion.EventIDAssigned, roomversion.StateResV1, roomversion.RedactionV1},
		"2":  {roomversion.EventFormatV1, roomversion.EventIDAssigned, roomversion.StateResV2, roomversion.RedactionV1},
		"3":  {roomversion.EventFormatV3, roomversion.EventIDHash, roomversion.StateResV2, roomversion.RedactionV1},
		"4":  {roomversion.EventFormatV3, roomversion.EventIDURLSafeHash, roomversion.StateResV2, roomversion.RedactionV1},
		"5":  {roomversion.EventFormatV3, roomversion.EventIDURLSafeHash, roomversion.StateResV2, roomversion.RedactionV1},
		"6":  {roomversion.EventFormatV3, roomversion.EventIDURLSafeHash, roomversion.StateResV2, roomversion.RedactionV6},
		"7":  {roomversion.EventFormatV3, roomversion.EventIDURLSafeHash, roomversion.StateResV2, roomversion.RedactionV6},
		"8":  {roomversion.EventFormatV3, roomversion.EventIDURLSafeHash, roomversion.StateResV2, roomversion.RedactionV8},
		"9":  {roomversion.EventFormatV3, roomversion.EventIDURLSafeHash, roomversion.StateResV2, roomversion.RedactionV9},
		"10": {roomversion.EventFormatV3, roomversion.EventIDURLSafeHash, roomversion.StateResV2, roomversion.RedactionV9},
		"11": {roomversion.EventFormatV3, roomversion.EventIDURLSafeHash, roomversion.StateResV2, roomversion.RedactionV11},
		"12": {roomversion.EventFormatV3, roomversion.EventIDURLSafeHash, roomversion.StateResV21, roomversion.RedactionV11},
	}
	for _, rules := range roomversion.All() {
		if got := (row{rules.EventFormat, rules.EventIDFormat, rules.StateRes, rules.Redaction}); got != want[rules.Version] {
			t.Errorf("version %s: %+v", rules.Version, got)
		}
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	for _, rules := range roomversion.All() {
		if got, known := roomversion.Of(rules.Version); !known || got != rules {
			t.Errorf("version %s is %v", rules.Version, got)
		}
	}
	if _, known := roomversion.Of(roomversion.Default); !known {
		t.Error("the default version is not known")
	}
	for _, version := range []string{"", "0", "13", "01", "1 ", "org.example.x"} {
		if _, known := roomversion.Of(version); known {
			t.Errorf("version %q is known", version)
		}
	}
	roomversion.All()[0] = nil
	if roomversion.All()[0] == nil {
		t.Error("a caller changed the table")
	}
}

// Spec: rooms#room-version-grammar
func TestValid(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"1": true, "1.2": true, "1.2-beta": true, "com.example.version": true, strings.Repeat("a", 32): true,
		"": false, strings.Repeat("a", 33): false, "A": false, "1_2": false, "1 2": false, "ä": false,
	} {
		if got := roomversion.Valid(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}
