package rules

import (
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"stoa/internal/devtools/source"
)

// owner says which package has the SQL that writes a table, and who may call the
// functions of that package that do. Reads are free, and so are tests.
type owner struct {
	table string
	in    string   // below stoa/internal
	by    []string // below stoa/internal; none: only the package itself
}

// owners are all tables, by the package that writes them. Two rows of a table: the
// engine writes the row with its head and slots, the other package more columns.
var owners = []owner{
	{"meta", "store", nil},
	{"migrations", "store", nil},
	{"numbers", "store", nil},
	{"state_keys", "store", nil},
	{"stream", "store", nil},
	{"instances", "store", []string{"cluster"}},
	{"rooms", "store", []string{"room"}},
	{"users", "store", nil},

	{"aliases", "store/roomdb", []string{"directory"}},
	{"backward_extremities", "store/roomdb", []string{"room"}},
	{"current_state", "store/roomdb", []string{"room"}},
	{"events", "store/roomdb", []string{"room"}},
	{"highlights", "store/roomdb", []string{"room"}},
	{"memberships", "store/roomdb", []string{"room"}},
	{"own_events", "store/roomdb", []string{"room"}},
	{"receipts", "store/roomdb", []string{"ephemeral", "room"}}, // room: with all of a room
	{"redacted", "store/roomdb", []string{"room"}},
	{"relations", "store/roomdb", []string{"room"}},
	{"room_servers", "store/roomdb", []string{"room"}},
	{"rooms", "store/roomdb", []string{"room"}},
	{"state_log", "store/roomdb", []string{"room"}},
	{"state_versions", "store/roomdb", []string{"room"}},
	{"threads", "store/roomdb", []string{"room"}},
	{"transactions", "store/roomdb", []string{"room", "e2ee"}}, // e2ee: of messages to devices
	{"verdicts", "store/roomdb", []string{"room"}},
	{"waiting_redactions", "store/roomdb", []string{"room"}},

	{"access_tokens", "store/userdb", []string{"auth"}},
	{"account_data", "store/userdb", []string{"userdata"}},
	{"dehydrated_devices", "store/userdb", []string{"e2ee"}},
	{"devices", "store/userdb", []string{"account", "auth"}},
	{"filters", "store/userdb", []string{"userdata"}},
	{"limits", "store/userdb", []string{"auth"}},
	{"login_tokens", "store/userdb", []string{"auth"}},
	{"openid_tokens", "store/userdb", []string{"auth"}},
	{"people_words", "store/userdb", []string{"account"}},
	{"presence", "store/userdb", []string{"ephemeral"}},
	{"profiles", "store/userdb", []string{"account"}},
	{"refresh_tokens", "store/userdb", []string{"auth"}},
	{"registration_tokens", "store/userdb", []string{"account"}},
	{"threepid_sessions", "store/userdb", []string{"auth", "threepid"}}, // auth: what a session grants
	{"threepids", "store/userdb", []string{"account"}},
	{"uia_sessions", "store/userdb", []string{"auth"}},
	{"uia_stages", "store/userdb", []string{"auth"}},
	{"users", "store/userdb", []string{"account"}},

	{"cross_signing_keys", "store/keydb", []string{"e2ee"}},
	{"device_keys", "store/keydb", []string{"e2ee"}},
	{"fallback_keys", "store/keydb", []string{"e2ee"}},
	{"key_backup_sessions", "store/keydb", []string{"e2ee"}},
	{"key_backups", "store/keydb", []string{"e2ee"}},
	{"key_signatures", "store/keydb", []string{"e2ee"}},
	{"one_time_keys", "store/keydb", []string{"e2ee"}},
	{"signing_keys", "store/keydb", []string{"serverkey"}},
	{"to_device", "store/keydb", []string{"e2ee"}},

	{"blobs", "store/mediadb", []string{"media"}},
	{"media", "store/mediadb", []string{"media"}},
	{"media_names", "store/mediadb", []string{"media"}},
	{"thumbnails", "store/mediadb", []string{"media"}},
	{"sliding_connections", "store/slidingdb", []string{"slidingsync"}},
	{"sliding_states", "store/slidingdb", []string{"slidingsync"}},

	{"delayed_events", "store/delayeddb", []string{"delayed"}},
	{"push_queue", "store/pushdb", []string{"push"}},
	{"pushers", "store/pushdb", []string{"push"}},
	{"url_previews", "store/previewdb", []string{"preview"}},
	{"mail_bounces", "store/maildb", []string{"mail"}},
	{"mail_budget", "store/maildb", []string{"mail"}},
	{"notice_rooms", "store/noticedb", []string{"notice"}},
	{"reports", "store/reportdb", []string{"report"}},
	{"search_index", "store/searchdb", []string{"search"}},

	{"jobs", "store/readerdb", []string{"reader"}},
	{"reader_aside", "store/readerdb", []string{"reader"}},
	{"reader_cursors", "store/readerdb", []string{"reader"}},
}

// functionOwners are functions with owners of their own, since they write tables of
// several owners at once, or one column.
var functionOwners = map[string][]string{
	"store/userdb.PutDevice":             {"auth"},              // a login replaces the tokens of its device
	"store/userdb.AddDehydratedDevice":   {"e2ee"},              // it has no session
	"store/userdb.DeleteDevice":          {"account", "e2ee"},   // with all that hangs on it; e2ee: dehydrated ones
	"store/userdb.DeleteBelongings":      {"account"},           // of a deactivated account
	"store/userdb.Erase":                 {"account"},           // the columns of users, and profiles
	"store/roomdb.SetPublished":          {"directory", "room"}, // one column; room: an upgrade takes the old room out of the directory
	"store/roomdb.ExpireTxns":            {"server"},            // a chore, for room and e2ee
	"store/keydb.DeleteKeysOfDevice":     {"store/userdb"},      // part of DeleteDevice
	"store/keydb.DeleteKeysOfUser":       {"store/userdb"},      // part of DeleteBelongings
	"store/delayeddb.DeleteOfUser":       {"store/userdb"},      // part of DeleteBelongings
	"store/pushdb.DeletePushersOfDevice": {"store/userdb"},      // part of DeleteDevice
	"store/pushdb.DeletePushersOfUser":   {"store/userdb"},      // part of DeleteBelongings
	"store/roomdb.MarkPushes":            {"store/pushdb"},      // one column, with the first pusher of a user
	"store/roomdb.UnmarkPushes":          {"store/pushdb"},      // with the last one

	"store/mediadb.AddNames":         {"room"}, // beside the event that names media
	"store/mediadb.DropNames":        {"room"}, // with the redaction of the event
	"store/mediadb.ReplaceNames":     {"account", "userdata"},
	"store/mediadb.DropNamesByUser":  {"account"},      // of a deactivated account
	"store/slidingdb.DeleteOfDevice": {"store/userdb"}, // with all that hangs on a device
	"store/slidingdb.DeleteOfUser":   {"store/userdb"}, // of a deactivated account
}

// engineWrites are methods of the engine that write a room's row.
var engineWrites = map[string]string{"NewRoom": "rooms", "SetRoom": "rooms"}

const internalPath = "stoa/internal/"

func ownersOf(table, in string) (by []string, ok bool) {
	for _, o := range owners {
		if o.table == table && o.in == in {
			return o.by, true
		}
	}
	return nil, false
}

func homesOf(table string) (in []string) {
	for _, o := range owners {
		if o.table == table {
			in = append(in, o.in)
		}
	}
	return in
}

var (
	createTable = regexp.MustCompile(`(?m)^CREATE TABLE (\w+)`)
	writesTable = regexp.MustCompile(`\b(?:INSERT INTO|UPDATE|DELETE FROM)\s+(\w+)`)
)

// tablesOfMigrations gives the tables that the migrations make.
func tablesOfMigrations(root string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(root, "internal/store/migrations/*.sql"))
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, m := range createTable.FindAllStringSubmatch(string(text), -1) {
			found[m[1]] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// hasSQL says whether a package prepares statements.
func hasSQL(p *source.Package) bool {
	found := false
	for _, f := range p.Files {
		if f.IsTest {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			found = found || ok && isPrepare(call)
			return !found
		})
	}
	return found
}

// isPrepare recognizes store.Prepare(…), and Prepare(…) in the engine.
func isPrepare(call *ast.CallExpr) bool {
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		return fun.Name == "Prepare"
	case *ast.SelectorExpr:
		x, ok := fun.X.(*ast.Ident)
		return ok && x.Name == "store" && fun.Sel.Name == "Prepare"
	}
	return false
}

// writes are the tables that the package-level names of a package write, directly
// or by what they use.
type writes map[string]map[string]bool

// statementsOf gives the tables that a package-level variable of a package writes.
func statementsOf(p *source.Package) writes {
	known := p.Constants()
	out := writes{}
	eachDecl(p, func(name string, node ast.Node) {
		ast.Inspect(node, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !isPrepare(call) || len(call.Args) != 1 {
				return true
			}
			text, _ := source.Text(call.Args[0], known, "?")
			for _, m := range writesTable.FindAllStringSubmatch(text, -1) {
				if m[1] == "SET" { // ON CONFLICT … DO UPDATE SET
					continue
				}
				if out[name] == nil {
					out[name] = map[string]bool{}
				}
				out[name][m[1]] = true
			}
			return true
		})
	})
	return out
}

// eachDecl calls f for the package-level variables and functions of a package.
func eachDecl(p *source.Package, f func(name string, node ast.Node)) {
	for _, file := range p.Files {
		if file.IsTest {
			continue
		}
		for _, d := range file.AST.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					f(d.Name.Name, d)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if v, ok := s.(*ast.ValueSpec); ok {
						for i, name := range v.Names {
							if i < len(v.Values) {
								f(name.Name, v.Values[i])
							}
						}
					}
				}
			}
		}
	}
}

// spread adds to each name what the names that it uses write.
func spread(p *source.Package, out writes) {
	for changed := true; changed; {
		changed = false
		eachDecl(p, func(name string, node ast.Node) {
			ast.Inspect(node, func(n ast.Node) bool {
				if _, ok := n.(*ast.SelectorExpr); ok {
					return true
				}
				id, ok := n.(*ast.Ident)
				if !ok || id.Name == name {
					return true
				}
				for table := range out[id.Name] {
					if out[name] == nil {
						out[name] = map[string]bool{}
					}
					changed = changed || !out[name][table]
					out[name][table] = true
				}
				return true
			})
		})
	}
}

// mayWrite says why a package may not call a function that writes tables; nil if
// it may.
func mayWrite(from, in, function string, tables map[string]bool) error {
	from = strings.TrimPrefix(from, internalPath)
	if by, ok := functionOwners[in+"."+function]; ok {
		if slices.Contains(by, from) {
			return nil
		}
		return fmt.Errorf("%s calls %s.%s, which only %s may: call a function of that package", from, in, function, strings.Join(by, " and "))
	}
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		by, ok := ownersOf(table, in)
		if !ok {
			continue // the table's own test tells
		}
		if !slices.Contains(by, from) {
			return fmt.Errorf("%s calls %s.%s, which writes table %s, and only %s may: call a function of that package, or name %s in the table owners of internal/devtools/rules and say why two packages write it",
				from, in, function, table, strings.Join(by, " and "), from)
		}
	}
	return nil
}

// importNames gives the packages with SQL that a file imports, by the names that
// it uses for them.
func importNames(f *source.File, all map[string]writes) map[string]string {
	names := map[string]string{}
	for _, spec := range f.AST.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil || all[strings.TrimPrefix(path, internalPath)] == nil {
			continue
		}
		name := path[strings.LastIndexByte(path, '/')+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = strings.TrimPrefix(path, internalPath)
	}
	return names
}
