package clientapi

import (
	"slices"
	"strings"
	"testing"

	"stoa/internal/httpkit"
	"stoa/internal/mediaapi"
)

// TestFeatures_are_tied_to_routes holds the table of unstable features to the routes, both ways.
func TestFeatures_are_tied_to_routes(t *testing.T) {
	t.Parallel()
	routes := New(Options{}).Routes()
	all := slices.Concat(routes, mediaapi.New(mediaapi.Options{}).Routes())
	served := map[string]bool{}
	for _, r := range all {
		served[r.Pattern] = true
	}
	own, names := map[string]bool{}, map[string]bool{}
	for _, f := range features {
		if (len(f.paths) == 0 && len(f.own) == 0) == (f.means == "") {
			t.Errorf("%v has to have either paths, or a stable behaviour that it stands for", f.names)
		}
		for _, name := range f.names {
			if names[name] {
				t.Errorf("%s is in the table twice", name)
			}
			names[name] = true
		}
		for _, path := range f.own {
			own[unstable+path] = true
			if !served[unstable+path] {
				t.Errorf("%v names %s, which is not a route", f.names, path)
			}
		}
		for _, path := range f.paths {
			found := slices.ContainsFunc(all, func(r httpkit.Route) bool { _, ok := path.of(r.Pattern); return ok })
			if !found || !strings.Contains(path.old, "/unstable/") {
				t.Errorf("%v names %s, and no route is %s", f.names, path.old, path.stable)
			}
		}
	}
	for _, r := range routes {
		if strings.HasPrefix(r.Pattern, unstable+"/") && !own[r.Pattern] {
			t.Errorf("%s %s is in no line of the table of features", r.Method, r.Pattern)
		}
	}
	old := map[string]bool{}
	for _, r := range UnstableRoutes(all) {
		if line := r.Method + " " + r.Pattern; old[line] || served[r.Pattern] {
			t.Errorf("%s is there twice", line)
		} else {
			old[line] = true
		}
	}
}
