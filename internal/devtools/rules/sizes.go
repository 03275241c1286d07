package rules

// The greatest sizes. The programs under test/ are not held to them.
const (
	maxPackageLines  = 6000 // without tests
	maxTypeMethods   = 40
	maxFunctionLines = 100
)

// tooLarge may be larger than the rule says, for the reason beside it: a package (stoa/internal/room), a type
// (stoa/internal/room.Rooms) or a function (stoa/internal/room.Rooms.Send). What no longer needs to be here fails the test.
var tooLarge = map[string]string{
	"stoa/internal/clientapi":            "is the handlers of all endpoints, until the account chapter has a package of its own",
	"stoa/internal/clientapi.API":        "is the handlers of all endpoints, each a method that parses, calls one function and answers",
	"stoa/internal/clientapi.API.Routes": "is the table of all routes, to be read at one go",

	"stoa/matrix/stateres/staterestest.Room.ReferenceTrace": "is the specification's numbered algorithm in its own order, against which the fast one is tested",
}
