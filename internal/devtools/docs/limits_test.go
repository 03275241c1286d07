package docs

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// fixedLimits are the rows of the tables below "Fixed limits" of docs/operations.md, with
// the constants that have their numbers: package.name, or package.name[key] of a map.
var fixedLimits = map[string][]string{
	"requests being served":                                                {"httpkit.defaultInFlight[LimitPlain]"},
	"… of one user, or of one address without an account":                  {"httpkit.defaultShare[LimitPlain]"},
	"… of `/sync`, until they start to wait for news":                      {"httpkit.defaultInFlight[LimitLongPoll]", "httpkit.defaultShare[LimitLongPoll]"},
	"… of login, and of registration":                                      {"httpkit.defaultInFlight[LimitLogin]", "httpkit.defaultInFlight[LimitRegister]", "httpkit.defaultShare[LimitLogin]", "httpkit.defaultShare[LimitRegister]"},
	"… without an account (profiles, aliases, published rooms)":            {"httpkit.defaultInFlight[LimitLookup]", "httpkit.defaultShare[LimitLookup]"},
	"memory of request bodies in progress":                                 {"httpkit.bodyBudget", "server.mostBodies", "httpkit.userBodies", "httpkit.addressBodies"},
	"memory of large responses in progress":                                {"httpkit.answerBytes", "server.mostAnswers", "httpkit.answerWait"},
	"memory of incomplete request headers, beyond the first 4 KiB of each": {"httpkit.headerBytes", "httpkit.addressHeaders"},
	"queued password checks":                                               {"account.hashesWaiting"},
	"connections":                                                          {"httpkit.MaxConnections"},
	"… of one address that have not sent a request yet":                    {"httpkit.addressConnections"},

	"devices":                             {"account.MaxDevices"},
	"account data":                        {"userdata.maxEntries", "userdata.maxEntry", "userdata.maxBytes"},
	"tags":                                {"userdata.maxTags"},
	"push rules":                          {"pushrule.maxRules[Override]", "pushrule.maxRules[Room]", "pushrule.maxRules[Sender]", "pushrule.maxRules[Content]", "pushrule.maxRules[Underride]", "pushrule.MaxOtherRules", "userdata.maxRules"},
	"profile":                             {"account.MaxProfileBytes"},
	"room aliases created":                {"directory.maxAliasesBy", "directory.maxAliases"},
	"key backup":                          {"e2ee.maxBackups", "e2ee.maxBackupSessions", "e2ee.maxSessionData"},
	"interactive authentication sessions": {"userdb.maxUIASessions"},
	"reserved `mxc:` addresses without an upload": {"media.maxPending"},
	"filters": {"userdata.maxFilters", "userdata.maxFilter"},
	"pushers": {"push.MaxPushers", "push.MaxData", "push.maxQueue"},
	"keys of a device, and each cross-signing key": {"e2ee.maxIdentityKeys"},
	"one-time keys of a device":                    {"e2ee.maxOneTimeKeys", "e2ee.maxKeyBytes"},
	"dehydrated device":                            {"e2ee.maxDehydratedData"},
	"signatures on a key":                          nil,
	"to-device messages queued for one device":     {"e2ee.maxQueue", "e2ee.maxQueueBytes"},
	"one `createRoom`":                             {"room.maxInvites", "room.maxInitialState", "room.maxCreators"},
}

var (
	limitRow    = regexp.MustCompile(`^\| ([^|]+) \| ([^|]+) \|$`)
	limitNumber = regexp.MustCompile(`[0-9][0-9,]*( [KMG]iB)?`)
)

// TestFixedLimits_are_in_the_docs compares the tables with the code, both ways: every row
// has constants here, every number of a row is that of a constant, and every constant is a
// number of its row.
func TestFixedLimits_are_in_the_docs(t *testing.T) {
	t.Parallel()
	root, _ := readPages(t)
	text, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "### Fixed limits")
	if !ok {
		t.Fatal("there is no section")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	constants := constantsOf(t, root)
	seen := map[string]bool{}
	for line := range strings.Lines(section) {
		row := limitRow.FindStringSubmatch(strings.TrimSpace(line))
		if row == nil || strings.HasPrefix(row[2], "---") || strings.HasPrefix(row[2], "Limit") {
			continue
		}
		names, ok := fixedLimits[row[1]]
		if !ok {
			t.Errorf("the row %q is not known here", row[1])
			continue
		}
		seen[row[1]] = true
		inRow, inCode := map[int64]bool{}, map[int64]bool{}
		for _, number := range limitNumber.FindAllString(row[2], -1) {
			if number == "429" || number == "503" { // a status
				continue
			}
			inRow[numberOf(t, number)] = true
		}
		for _, name := range names {
			value, err := constants.value(name)
			if err != nil {
				t.Errorf("%s: %v", row[1], err)
				continue
			}
			if inCode[value] = true; !inRow[value] {
				t.Errorf("the row %q has no %d, which is %s: %s", row[1], value, name, row[2])
			}
		}
		for value := range inRow {
			if !inCode[value] {
				t.Errorf("the row %q has %d, which is no constant of it", row[1], value)
			}
		}
	}
	for name := range fixedLimits {
		if !seen[name] {
			t.Errorf("there is no row %q", name)
		}
	}
}

func numberOf(t *testing.T, text string) int64 {
	t.Helper()
	digits, unit, _ := strings.Cut(strings.ReplaceAll(text, ",", ""), " ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << map[string]int{"KiB": 10, "MiB": 20, "GiB": 30}[unit]
}

// constants are the constants and maps at the top level of packages, by package.name.
type constants map[string]ast.Expr

func constantsOf(t *testing.T, root string) constants {
	t.Helper()
	all := constants{}
	packages := map[string]bool{}
	for _, names := range fixedLimits {
		for _, name := range names {
			pkg, _, _ := strings.Cut(name, ".")
			packages[pkg] = true
		}
	}
	for pkg := range packages {
		dir := filepath.Join(root, "internal", pkg)
		switch pkg {
		case "userdb":
			dir = filepath.Join(root, "internal", "store", pkg)
		case "pushrule":
			dir = filepath.Join(root, "matrix", pkg)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				decl, ok := d.(*ast.GenDecl)
				if !ok || strings.HasSuffix(file, "_test.go") {
					continue
				}
				for _, s := range decl.Specs {
					spec, ok := s.(*ast.ValueSpec)
					if !ok || len(spec.Values) != len(spec.Names) {
						continue
					}
					for i, name := range spec.Names {
						all[pkg+"."+name.Name] = spec.Values[i]
					}
				}
			}
		}
	}
	return all
}

// value is the value of a constant, times in seconds.
func (all constants) value(name string) (int64, error) {
	name, key, isMap := strings.Cut(strings.TrimSuffix(name, "]"), "[")
	expr, ok := all[name]
	if !ok {
		return 0, fmt.Errorf("there is no %s", name)
	}
	if isMap {
		list, ok := expr.(*ast.CompositeLit)
		if !ok {
			return 0, fmt.Errorf("%s is no map", name)
		}
		for _, e := range list.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok && types.ExprString(kv.Key) == key {
				return evaluate(kv.Value)
			}
		}
		return 0, fmt.Errorf("%s has no %s", name, key)
	}
	return evaluate(expr)
}

func evaluate(expr ast.Expr) (int64, error) {
	text := strings.ReplaceAll(types.ExprString(expr), "time.Second", "1")
	v, err := types.Eval(token.NewFileSet(), nil, token.NoPos, text)
	if err != nil {
		return 0, err
	}
	n, ok := constant.Int64Val(constant.ToInt(v.Value))
	if !ok {
		return 0, fmt.Errorf("%s is no number", text)
	}
	return n, nil
}
