package spec

import (
	"slices"
	"testing"
)

func TestReferences(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		comment string
		want    []string
	}{
		"finds_one":                         {"does it.\n\nSpec: client-server-api#syncing\n", []string{"client-server-api#syncing"}},
		"finds_several":                     {"Spec: rooms/v1#event-ids, rooms/v3#event-ids\n", []string{"rooms/v1#event-ids", "rooms/v3#event-ids"}},
		"goes_on_to_the_next_line":          {"Spec: rooms/v1#event-ids,\nrooms/v3#event-ids\n", []string{"rooms/v1#event-ids", "rooms/v3#event-ids"}},
		"ends_with_the_paragraph":           {"Spec: appendices\n\nSee rooms/v3#event-ids\n", []string{"appendices"}},
		"finds_one_behind_a_sentence":       {"Devices. Spec: client-server-api#device-management\n", []string{"client-server-api#device-management"}},
		"gives_pages_that_do_not_exist_too": {"Spec: client-api#syncing\n", []string{"client-api#syncing"}},
		"ignores_other_comments":            {"Like client-server-api#syncing.\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := References(c.comment); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestIndex(t *testing.T) {
	t.Parallel()
	sections := Sections()
	for _, s := range []string{"client-server-api", "client-server-api#put_matrixclientv3roomsroomidsendeventtypetxnid", "rooms/v11#redactions", "client-server-api#mroommember"} {
		if !sections[s] {
			t.Errorf("%s is missing", s)
		}
	}
	endpoints, err := Endpoints()
	if err != nil {
		t.Fatal(err)
	}
	if len(endpoints) < 150 || !slices.ContainsFunc(endpoints, func(e Endpoint) bool {
		return e == Endpoint{Method: "GET", Path: "/_matrix/client/v3/sync", OperationID: "sync", File: "sync"}
	}) {
		t.Errorf("%d endpoints", len(endpoints))
	}
}
