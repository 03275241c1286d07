package store

import (
	"fmt"
	"regexp"
	"strings"
)

// dialect is everything in SQL texts that differs between the engines.
type dialect uint8

const (
	dialectSQLite dialect = iota
	dialectPostgres
)

// shared reports whether several instances may write to the database.
func (d dialect) shared() bool { return d == dialectPostgres }

func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

// Stmt is one SQL text, prepared once per connection. Parameters are $1, $2 …
// and two markers take a list parameter:
//
//	{{in e.num $1}}        e.num is one of the integers of list $1
//	{{intext u.name $1}}   u.name is one of the strings of list $1
//	{{each $1}}            a table expression with one column v: the integers of list $1
//
// and one marker stands for the time of the database in ms since 1970, which is
// the same for all instances:
//
//	{{now}}
type Stmt struct {
	id   int
	text string
	lite string
	pg   string
}

// registry holds all statements; it is complete when package variables are
// initialized and never changes afterwards.
var registry []*Stmt

// Prepare registers a statement. Call it for a package variable only:
//
//	var selectRoom = store.Prepare(`SELECT num FROM rooms WHERE room_id = $1`)
func Prepare(sql string) *Stmt {
	s := &Stmt{id: len(registry), text: sql, lite: dialectSQLite.render(sql), pg: dialectPostgres.render(sql)}
	registry = append(registry, s)
	return s
}

// PrepareEach is Prepare for what the engines do in different ways, the full-text index.
func PrepareEach(lite, pg string) *Stmt {
	s := &Stmt{id: len(registry), text: lite, lite: dialectSQLite.render(lite), pg: dialectPostgres.render(pg)}
	registry = append(registry, s)
	return s
}

// one is the PostgreSQL text of a write that must touch exactly one row. It fails with
// division_by_zero if it touched none, so that a whole group can be sent without checking
// row counts in between.
func (s *Stmt) one() string {
	return "WITH touched AS (" + s.pg + " RETURNING 1) SELECT 1 / (CASE WHEN count(*) = 1 THEN 1 ELSE 0 END) FROM touched"
}

var (
	listMarker  = regexp.MustCompile(`\{\{(in|intext) (\S+) (\$\d+)\}\}`)
	eachMarker  = regexp.MustCompile(`\{\{each (\$\d+)\}\}`)
	paramMarker = regexp.MustCompile(`\$(\d+)`)
)

func (d dialect) render(sql string) string {
	sql = listMarker.ReplaceAllStringFunc(sql, func(m string) string {
		p := listMarker.FindStringSubmatch(m)
		if d == dialectSQLite {
			return fmt.Sprintf("%s IN (SELECT value FROM json_each(%s))", p[2], p[3])
		}
		if p[1] == "in" {
			return fmt.Sprintf("%s = ANY(%s::bigint[])", p[2], p[3])
		}
		return fmt.Sprintf("%s = ANY(%s::text[])", p[2], p[3])
	})
	sql = eachMarker.ReplaceAllStringFunc(sql, func(m string) string {
		p := eachMarker.FindStringSubmatch(m)
		if d == dialectSQLite {
			return fmt.Sprintf("(SELECT value AS v FROM json_each(%s))", p[1])
		}
		return fmt.Sprintf("(SELECT unnest(%s::bigint[]) AS v)", p[1])
	})
	sql = schemaMarkers[d].Replace(sql)
	if d == dialectSQLite {
		sql = paramMarker.ReplaceAllString(sql, "?$1")
	}
	return sql
}

// schemaMarkers are for migrations: {{blob}}, {{clustered}} after a table whose rows are
// stored in the order of their primary key, {{intkey}} for a table with one integer key.
// {{now}} is for statements.
var schemaMarkers = [...]*strings.Replacer{
	dialectSQLite: strings.NewReplacer("{{blob}}", "BLOB", "{{clustered}}", "WITHOUT ROWID",
		"{{intkey}}", "INTEGER PRIMARY KEY", "{{now}}", nowFunction+"()"),
	dialectPostgres: strings.NewReplacer("{{blob}}", "BYTEA", "{{clustered}}", "",
		"{{intkey}}", "BIGINT PRIMARY KEY", "{{now}}", databaseNow),
}

// appendTexts appends a JSON list of strings.
func appendTexts(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendJSONString(dst, s)
	}
	return append(dst, ']')
}

func appendJSONString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
