// Command specindex makes the pinned index of the specification anew from a
// folder that holds its content/ and data/: names of sections and endpoints.
// It needs running only when Stoa follows a newer specification.
//
//	go run ./internal/devtools/specindex -spec ../shared/spec
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"stoa/internal/devtools/spec"
)

func main() {
	from := flag.String("spec", "../shared/spec", "folder of the specification")
	to := flag.String("o", "internal/devtools/spec", "folder of the index")
	flag.Parse()
	if err := run(*from, *to); err != nil {
		fmt.Fprintln(os.Stderr, "specindex:", err)
		os.Exit(1)
	}
}

func run(from, to string) error {
	endpoints, err := readEndpoints(filepath.Join(from, "data", "api", "client-server"))
	if err != nil {
		return err
	}
	if err := writeLines(filepath.Join(to, "endpoints.json"), endpoints); err != nil {
		return err
	}
	requests, err := readRequests(filepath.Join(from, "data", "api", "client-server"), endpoints)
	if err != nil {
		return err
	}
	if err := writeLines(filepath.Join(to, "requests.json"), requests); err != nil {
		return err
	}
	sections, err := readSections(from)
	if err != nil {
		return err
	}
	list := "// Sections of the Matrix specification v1.19, made by specindex.\n" + strings.Join(sections, "\n") + "\n"
	return os.WriteFile(filepath.Join(to, "headings.txt"), []byte(list), 0o644)
}

// writeLines writes a JSON list with one element a line.
func writeLines[T any](file string, list []T) error {
	var text strings.Builder
	text.WriteString("[\n")
	for i, e := range list {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		text.Write(line)
		if i < len(list)-1 {
			text.WriteByte(',')
		}
		text.WriteByte('\n')
	}
	text.WriteString("]\n")
	return os.WriteFile(file, []byte(text.String()), 0o644)
}

// api is what is read of an OpenAPI file.
type api struct {
	Servers []struct {
		Variables struct {
			BasePath struct {
				Default string `yaml:"default"`
			} `yaml:"basePath"`
		} `yaml:"variables"`
	} `yaml:"servers"`
	Paths map[string]map[string]yaml.Node `yaml:"paths"`
}

var methods = []string{"get", "put", "post", "delete", "head", "patch", "options"}

func readAPI(file string) (base string, a api, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", a, err
	}
	if err := yaml.Unmarshal(text, &a); err != nil {
		return "", a, fmt.Errorf("%s: %w", file, err)
	}
	if len(a.Servers) > 0 {
		base = a.Servers[0].Variables.BasePath.Default
	}
	return base, a, nil
}

func readEndpoints(folder string) ([]spec.Endpoint, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return nil, err
	}
	var all []spec.Endpoint
	for _, file := range files {
		base, a, err := readAPI(file)
		if err != nil {
			return nil, err
		}
		for path, operations := range a.Paths {
			for method, node := range operations {
				if !slices.Contains(methods, method) {
					continue
				}
				var op struct {
					OperationID string `yaml:"operationId"`
					Deprecated  bool   `yaml:"deprecated"`
				}
				if err := node.Decode(&op); err != nil {
					return nil, fmt.Errorf("%s: %w", file, err)
				}
				all = append(all, spec.Endpoint{
					Method: strings.ToUpper(method), Path: strings.TrimSpace(base + path), OperationID: op.OperationID,
					File: strings.TrimSuffix(filepath.Base(file), ".yaml"), Deprecated: op.Deprecated,
				})
			}
		}
	}
	slices.SortFunc(all, func(a, b spec.Endpoint) int {
		return strings.Compare(a.File+" "+a.Path+" "+a.Method, b.File+" "+b.Path+" "+b.Method)
	})
	return all, nil
}

// pages are the pages of the specification whose sections are indexed.
func pages(content string) (map[string]string, error) {
	all := map[string]string{
		"client-server-api": "client-server-api/_index.md", "server-server-api": "server-server-api.md",
		"application-service-api": "application-service-api.md", "identity-service-api": "identity-service-api.md",
		"push-gateway-api": "push-gateway-api.md", "appendices": "appendices.md", "rooms": "rooms/_index.md",
		"olm-megolm": "olm-megolm/_index.md", "olm-megolm/olm": "olm-megolm/olm.md", "olm-megolm/megolm": "olm-megolm/megolm.md",
	}
	versions, err := filepath.Glob(filepath.Join(content, "rooms", "v*.md"))
	for _, v := range versions {
		name := strings.TrimSuffix(filepath.Base(v), ".md")
		all["rooms/"+name] = "rooms/" + name + ".md"
	}
	return all, err
}

func readSections(from string) ([]string, error) {
	list, err := pages(filepath.Join(from, "content"))
	if err != nil {
		return nil, err
	}
	var all []string
	for page, file := range list {
		p := &pageReader{root: from, seen: map[string]int{}}
		if err := p.read(filepath.Join(from, "content", file)); err != nil {
			return nil, err
		}
		for _, id := range p.ids {
			all = append(all, page+"#"+id)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// pageReader collects the anchors of one page in the order of its text, since
// the second heading of a name gets the anchor name-1.
type pageReader struct {
	root string
	seen map[string]int
	ids  []string
}

var (
	headingLine = regexp.MustCompile(`^(#{1,6})\s+(.*?)\s*$`)
	ownID       = regexp.MustCompile(`\s*\{(?:#|id=")([^"}]+)"?\}\s*$`)
	shortcode   = regexp.MustCompile(`\{\{[%<]\s*([a-z-]+)((?:\s+[a-z_-]+="[^"]*")*)\s*/?[%>]\}\}`)
	attribute   = regexp.MustCompile(`([a-z_-]+)="([^"]*)"`)
)

func (p *pageReader) read(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	fenced := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		}
		if fenced {
			continue
		}
		for _, code := range shortcode.FindAllStringSubmatch(line, -1) {
			attrs := map[string]string{}
			for _, a := range attribute.FindAllStringSubmatch(code[2], -1) {
				attrs[a[1]] = a[2]
			}
			if err := p.include(code[1], attrs); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
		if m := headingLine.FindStringSubmatch(line); m != nil {
			p.heading(shortcode.ReplaceAllString(m[2], ""))
		}
	}
	return nil
}

// include reads what a shortcode puts into the page.
func (p *pageReader) include(name string, attrs map[string]string) error {
	switch name {
	case "cs-module":
		return p.read(filepath.Join(p.root, "content", "client-server-api", "modules", attrs["filename"]+".md"))
	case "rver-fragment":
		return p.read(filepath.Join(p.root, "content", "rooms", "fragments", attrs["name"]+".md"))
	case "http-api":
		base, a, err := readAPI(filepath.Join(p.root, "data", "api", attrs["spec"], attrs["api"]+".yaml"))
		if err != nil {
			return err
		}
		for path, operations := range a.Paths {
			for method := range operations {
				p.ids = append(p.ids, anchor(method+base+path))
			}
		}
	case "event":
		p.ids = append(p.ids, anchor(attrs["event"]))
	case "event-group":
		files, err := filepath.Glob(filepath.Join(p.root, "data", "event-schemas", "schema", attrs["group_name"]+"*.yaml"))
		if err != nil {
			return err
		}
		for _, f := range files {
			p.ids = append(p.ids, anchor(strings.TrimSuffix(filepath.Base(f), ".yaml")))
		}
	case "msgtypes":
		files, err := filepath.Glob(filepath.Join(p.root, "data", "event-schemas", "schema", "m.room.message$*.yaml"))
		if err != nil {
			return err
		}
		for _, f := range files {
			_, msgtype, _ := strings.Cut(strings.TrimSuffix(filepath.Base(f), ".yaml"), "$")
			p.ids = append(p.ids, anchor(msgtype))
		}
	}
	return nil
}

func (p *pageReader) heading(title string) {
	if m := ownID.FindStringSubmatch(title); m != nil {
		p.ids = append(p.ids, m[1])
		return
	}
	id := anchor(strings.TrimSpace(title))
	n := p.seen[id]
	p.seen[id]++
	if n > 0 {
		id = fmt.Sprintf("%s-%d", id, n)
	}
	p.ids = append(p.ids, id)
}

// anchor is the name that the specification's site gives a heading: letters,
// digits, "-" and "_" in lower case, spaces as "-", all else left out.
func anchor(title string) string {
	var b strings.Builder
	for _, r := range title {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
			b.WriteRune(unicode.ToLower(r))
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}
