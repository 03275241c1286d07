package rules

import (
	"go/ast"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// bannedWord is a word that a reader would have to learn here, with the word that
// they already know.
type bannedWord struct {
	word string
	say  string
	// inProse bans the word in comments and documents too. Words that have an
	// ordinary use in English are checked only in names.
	inProse bool
	// but lists parts of names in which the word stays, such as terms of the
	// specification.
	but []string
}

var banned = []bannedWord{
	{word: "others", say: "the instances, rooms or users that are meant: peers, rest, otherUsers"},
	{word: "handed", say: "replicated, received, forwarded"},
	{word: "hand", say: "replication, send, pass"},
	{word: "hands", say: "worker pool, workers"},
	{word: "stretch", say: "segment, interval"},
	{word: "stretches", say: "segments, intervals"},
	{word: "sight", say: "visibility"},
	{word: "sights", say: "visibility history", inProse: true},
	{word: "tails", say: "recent timelines, commit feed"},
	{word: "crowd", say: "fan-out batch, waiters, users", inProse: true},
	{word: "told", say: "notified, reported, known"},
	{word: "held", say: "retained, paused, locked"},
	{word: "bay", say: "parking lot, parked connections", inProse: true},
	{word: "comeback", say: "return, reconnect", inProse: true},
	{word: "adrift", say: "stale, behind", inProse: true},
	{word: "lags", say: "scheduling delay, behind"},
	{word: "promptly", say: "on time, high priority", inProse: true},
	{word: "span", say: "range, interval", but: []string{"codeSpan"}},
	{word: "cut", say: "truncated, split, limit"},
	{word: "glimpse", say: "recent read, uncommitted read", inProse: true},
	{word: "glance", say: "quick read, recent read", inProse: true},
	{word: "lull", say: "idle time", inProse: true},
	{word: "leisurely", say: "low priority", inProse: true},
	{word: "breather", say: "pause", inProse: true},
	{word: "house", say: "fixture"},
	{word: "town", say: "cluster, population", inProse: true},
	{word: "fragment", say: "section, part"},
	{word: "wheel", say: "timers", but: []string{"timerWheel", "TimerWheel"}},
	{word: "roster", say: "members, hero candidates"},
	{word: "courier", say: "replicator"},
	{word: "patience", say: "timeout, wait"},
	{word: "tally", say: "counter, results, usage", inProse: true},
	{word: "tallies", say: "counters", inProse: true},
	{word: "epoch", say: "start, generation, evictions"},
	{word: "horizon", say: "oldest position", inProse: true},
	{word: "upkeep", say: "the job's own name, housekeeping", inProse: true},
	{word: "founding", say: "creating", inProse: true},
	{word: "tip", say: "forward extremity"},
	{word: "tips", say: "forward extremities"},
	{word: "flight", say: "changes in flight", but: []string{"inFlight", "InFlight"}},
	{word: "depart", say: "submit"},
	{word: "departure", say: "submission"},
	{word: "arrival", say: "placement"},
	{word: "contest", say: "retry, conflict"},
	{word: "world", say: "fixture, model", but: []string{"WorldReadable"}},
}

// declaredNames gives each name that a file declares: of its package, types,
// functions, parameters, fields, variables, constants and labels.
func declaredNames(f *ast.File, add func(id *ast.Ident)) {
	fields := func(list *ast.FieldList) {
		if list == nil {
			return
		}
		for _, field := range list.List {
			for _, name := range field.Names {
				add(name)
			}
		}
	}
	add(f.Name)
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			add(n.Name)
			fields(n.Recv)
		case *ast.FuncType:
			fields(n.TypeParams)
			fields(n.Params)
			fields(n.Results)
		case *ast.StructType:
			fields(n.Fields)
		case *ast.InterfaceType:
			fields(n.Methods)
		case *ast.TypeSpec:
			add(n.Name)
			fields(n.TypeParams)
		case *ast.ValueSpec:
			for _, name := range n.Names {
				add(name)
			}
		case *ast.ImportSpec:
			if n.Name != nil {
				add(n.Name)
			}
		case *ast.LabeledStmt:
			add(n.Label)
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				if id, ok := left.(*ast.Ident); ok && n.Tok.String() == ":=" {
					add(id)
				}
			}
		case *ast.RangeStmt:
			for _, e := range []ast.Expr{n.Key, n.Value} {
				if id, ok := e.(*ast.Ident); ok && n.Tok.String() == ":=" {
					add(id)
				}
			}
		}
		return true
	})
}

// isTestName says whether a name is the sentence of a test, which is prose.
func isTestName(name string) bool {
	for _, prefix := range []string{"Test", "Fuzz", "Benchmark", "Example"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// wordsOf splits a name into its words, in lower case: "onHTTPHandOver" is on,
// http, hand, over.
func wordsOf(name string) []string {
	var words []string
	letters := []rune(name)
	begin := 0
	end := func(i int) {
		if i > begin {
			words = append(words, strings.ToLower(string(letters[begin:i])))
		}
		begin = i
	}
	for i, r := range letters {
		switch {
		case !unicode.IsLetter(r):
			end(i)
			begin = i + 1
		case i == 0 || !unicode.IsUpper(r):
		case unicode.IsLower(letters[i-1]), i+1 < len(letters) && unicode.IsLower(letters[i+1]):
			end(i)
		}
	}
	end(len(letters))
	return words
}

var (
	codeBlock = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	proseWord = regexp.MustCompile(`[A-Za-z_]+`)
)

// proseWords gives the words of a text in lower case. What stands in backticks is
// code and is left out; so is a word with an underscore.
func proseWords(text string) []string {
	var words []string
	for _, w := range proseWord.FindAllString(codeBlock.ReplaceAllString(text, " "), -1) {
		if !strings.Contains(w, "_") {
			words = append(words, strings.ToLower(w))
		}
	}
	return words
}

// bannedIn gives the banned words of a name, or of a text of prose.
func bannedIn(text string, prose bool) []bannedWord {
	var found []bannedWord
	for _, b := range banned {
		var words []string
		switch {
		case !prose:
			name := text
			for _, part := range b.but {
				name = strings.ReplaceAll(name, part, "_")
			}
			words = wordsOf(name)
		case b.inProse:
			words = proseWords(text)
		}
		if slices.Contains(words, b.word) {
			found = append(found, b)
		}
	}
	return found
}

// sameButForCase gives pairs of names of a package that differ only by case, both of
// functions, both of types, or both of values. A table package may name a
// statement like the function that runs it.
func sameButForCase(files []*ast.File) (pairs [][2]*ast.Ident) {
	type key struct{ kind, name string }
	first := map[key]*ast.Ident{}
	add := func(kind string, id *ast.Ident) {
		k := key{kind, strings.ToLower(id.Name)}
		if other := first[k]; other == nil {
			first[k] = id
		} else if other.Name != id.Name {
			pairs = append(pairs, [2]*ast.Ident{other, id})
		}
	}
	for _, f := range files {
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					add("function", d.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch s := spec.(type) {
					case *ast.TypeSpec:
						add("type", s.Name)
					case *ast.ValueSpec:
						for _, name := range s.Names {
							add("value", name)
						}
					}
				}
			}
		}
	}
	return pairs
}
