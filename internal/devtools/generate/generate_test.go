package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"

	"stoa/internal/devtools/source"
	"stoa/internal/devtools/spec"
)

// repositoryOf makes a repository of one package with one file.
func repositoryOf(t *testing.T, name, text string) *source.Repository {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	isTest := name == "x_test.go"
	return &source.Repository{Fset: fset, Packages: []*source.Package{{
		Path: "stoa/internal/x", Dir: "internal/x", Files: []*source.File{{Name: name, IsTest: isTest, AST: file}},
	}}}
}

func TestFindRoutes(t *testing.T) {
	t.Parallel()
	repo := repositoryOf(t, "x.go", `package x
const client = "/_matrix/client"
var routes = []Route{
	route("GET", client+"/v3/sync", a.sync),
	limited(httpkit.LimitLogin, http.MethodPost, client+"/v3/login", a.login),
	{Method: "PUT", Pattern: "/plain/{id}", Handler: httpkit.Adapt(a.plain)},
	{Method: "GET", Pattern: "/ready", NoBarrier: true, Handler: s.ready},
	{Method: "GET", Pattern: "/stage", Limit: httpkit.LimitLogin, Handler: httpkit.Adapt(stages.show)},
	notARoute("GET", "no path", a.sync),
}`)
	want := []foundRoute{
		{"POST", "/_matrix/client/v3/login", "x.login"}, {"GET", "/_matrix/client/v3/sync", "x.sync"}, {"PUT", "/plain/{id}", "x.plain"},
		{"GET", "/ready", "x.ready"}, {"GET", "/stage", "x.show"},
	}
	if got := findRoutes(repo); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFindTests(t *testing.T) {
	t.Parallel()
	endpoints := []spec.Endpoint{
		{Method: "PUT", Path: "/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}", OperationID: "sendMessage"},
		{Method: "POST", Path: "/_matrix/client/v3/rooms/{roomId}/join", OperationID: "joinRoomById"},
		{Method: "POST", Path: "/_matrix/client/v3/rooms/{roomId}/leave", OperationID: "leaveRoom"},
		{Method: "GET", Path: "/_matrix/client/v3/sync", OperationID: "sync"},
		{Method: "POST", Path: "/_matrix/client/v3/logout", OperationID: "logout"},
	}
	repo := repositoryOf(t, "x_test.go", `package x
func (c *client) send(room string) { c.do("PUT", "/_matrix/client/v3/rooms/"+room+"/send/m.room.message/"+c.txn(), body) }
func TestSends(t *testing.T) { c.send("!a") }
func TestJoins(t *testing.T) { c.post(fmt.Sprintf("/rooms/%s/join", room)) }
func TestTables(t *testing.T) { for _, x := range []row{{"GET", "/_matrix/client/v3/sync?timeout=0"}} {} }
func TestActs(t *testing.T) { c.post("/rooms/"+room+"/"+act) }
// TestEnds ends it.
//
// Covers: logout
func TestEnds(t *testing.T) {}
`)
	asked := findTests(repo, endpoints)
	for i, want := range [][]string{{"x.TestSends"}, {"x.TestJoins"}, nil, {"x.TestTables"}, {"x.TestEnds"}} {
		if !slices.Equal(asked[i], want) {
			t.Errorf("%s: got %v, want %v", endpoints[i].OperationID, asked[i], want)
		}
	}
}

func TestMetricOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`f("stoa_a_total", "Things that happened.", nil)`:                "stoa_a_total",
		`Opts{Name: "stoa_b_bytes", Help: "Bytes that are held."}`:       "stoa_b_bytes",
		`f(prometheus.Opts{Name: "other", Help: "Not one of our own."})`: "",
	} {
		e, err := parser.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		ast.Inspect(e, func(n ast.Node) bool {
			if name, _, ok := metricOf(n, nil); ok {
				got = name
			}
			return true
		})
		if got != want {
			t.Errorf("%s: got %q", text, got)
		}
	}
}
