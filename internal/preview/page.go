package preview

import (
	"bufio"
	"bytes"
	"io"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding"
)

// Bounds of what is taken from a page, in bytes.
const (
	maxTitle       = 300
	maxDescription = 1000
	maxValue       = 500
	maxText        = 4 * maxDescription // that is collected for a description
	maxImages      = 3                  // candidates
	peeked         = 32 << 10           // for guessing the charset
)

// page is what a page says of itself. Values are as they stand there.
type page struct {
	meta   map[string]string // by property or name; the first one counts
	title  string
	header string // the first h1
	// paragraphs is the text of the p elements, and text that of all others outside of menus.
	paragraphs, text string
	links            []string // rel=image_src
	pictures         []string // img elements
	base             string
}

// utf8Reader decodes a page. A charset that the page does not state is UTF-8 if its beginning is.
func utf8Reader(src io.Reader, contentType string) io.Reader {
	r := bufio.NewReaderSize(src, peeked)
	beginning, _ := r.Peek(peeked) // an error comes again when the rest is read
	e, name, certain := charset.DetermineEncoding(beginning, contentType)
	if !certain && utf8.Valid(trimRune(beginning)) {
		name = "utf-8"
	}
	if name == "utf-8" {
		e = encoding.Nop // the tokenizer gets what is no UTF-8 too; clean repairs it
	}
	return e.NewDecoder().Reader(r)
}

// trimRune takes away the beginning of a character that is cut off at the end.
func trimRune(b []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if tail := b[len(b)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return b[:len(b)-i]
			}
			break
		}
	}
	return b
}

// skipped are elements whose text is not of the page's subject.
var skipped = map[atom.Atom]bool{
	atom.Script: true, atom.Style: true, atom.Noscript: true, atom.Template: true, atom.Svg: true, atom.Nav: true, atom.Header: true,
	atom.Footer: true, atom.Aside: true, atom.Form: true, atom.Button: true, atom.Select: true, atom.Iframe: true, atom.Textarea: true,
}

// readPage reads HTML, or XML that looks like it, as far as it can be read. It builds no tree, so depth costs nothing, and
// the tokenizer knows no entities but those of HTML, so none expand.
func readPage(src io.Reader) *page {
	p := &page{meta: map[string]string{}}
	z := html.NewTokenizer(src)
	var in state
	for {
		switch z.Next() {
		case html.ErrorToken:
			p.paragraphs, p.text = in.paragraphs.String(), in.text.String()
			return p
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			tag := atom.Lookup(name)
			in.start(tag)
			if more && (tag == atom.Meta || tag == atom.Link || tag == atom.Base || tag == atom.Img) {
				p.element(tag, attributes(z), &in)
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			in.end(atom.Lookup(name))
		case html.TextToken:
			p.addText(z.Text(), &in)
		}
	}
}

// state is where in a page the tokenizer is.
type state struct {
	element          atom.Atom // title or h1, or 0
	body, paragraph  bool
	skip             int // elements of skipped that are open
	paragraphs, text bytes.Buffer
}

func (s *state) start(tag atom.Atom) {
	switch {
	case tag == atom.Body:
		s.body = true
	case tag == atom.Title || tag == atom.H1:
		s.element = tag
	case tag == atom.P || tag == atom.Br:
		s.paragraph = s.paragraph || tag == atom.P
		if s.paragraphs.Len() < maxText {
			s.paragraphs.WriteByte(' ')
		}
	case tag == atom.Div || tag == atom.Section || tag == atom.Ul || tag == atom.Table:
		s.paragraph = false
	case skipped[tag]:
		s.skip++
	}
	if s.text.Len() < maxText {
		s.text.WriteByte(' ')
	}
}

func (s *state) end(tag atom.Atom) {
	switch {
	case tag == atom.P:
		s.paragraph = false
	case tag == s.element:
		s.element = 0
	case skipped[tag] && s.skip > 0:
		s.skip--
	}
}

func (p *page) addText(text []byte, in *state) {
	switch {
	case in.element == atom.Title && p.title == "":
		p.title = string(text[:min(len(text), maxText)])
	case in.element == atom.H1 && len(p.header) < maxTitle:
		p.header += string(text[:min(len(text), maxText)])
	case in.skip > 0 || !in.body || in.element != 0:
	case in.paragraph && in.paragraphs.Len() < maxText:
		in.paragraphs.Write(text[:min(len(text), maxText)])
	case in.text.Len() < maxText:
		in.text.Write(text[:min(len(text), maxText)])
	}
}

// wanted are the attributes that matter.
var wanted = map[string]bool{"property": true, "name": true, "itemprop": true, "content": true, "rel": true, "href": true, "src": true, "width": true, "height": true}

func attributes(z *html.Tokenizer) map[string]string {
	all := map[string]string{}
	for {
		key, value, more := z.TagAttr()
		if name := string(key); wanted[name] && all[name] == "" {
			all[name] = string(value[:min(len(value), maxText)])
		}
		if !more {
			return all
		}
	}
}

func (p *page) element(tag atom.Atom, a map[string]string, in *state) {
	switch tag {
	case atom.Meta:
		for _, kind := range [3]string{"property", "name", "itemprop"} {
			name := strings.ToLower(strings.TrimSpace(a[kind]))
			if kind == "itemprop" && name != "" {
				name = "itemprop:" + name
			}
			if isWantedMeta(name) && p.meta[name] == "" {
				p.meta[name] = a["content"]
			}
		}
	case atom.Link:
		if strings.EqualFold(a["rel"], "image_src") {
			p.links = addImage(p.links, a["href"])
		}
	case atom.Base:
		if p.base == "" {
			p.base = a["href"]
		}
	case atom.Img:
		if in.skip == 0 && !isTiny(a["width"]) && !isTiny(a["height"]) {
			p.pictures = addImage(p.pictures, a["src"])
		}
	}
}

func addImage(list []string, src string) []string {
	if src == "" || strings.HasPrefix(src, "data:") || len(src) == maxText || len(list) >= maxImages {
		return list
	}
	return append(list, src)
}

// isTiny says that an image is too small to show: a button, or a pixel that counts readers.
func isTiny(side string) bool { return len(side) == 1 || len(side) == 2 && side < "64" }

// sources are the properties that each part of a preview is taken from, the best first.
var sources = map[string][]string{
	"og:title":       {"og:title", "twitter:title", "itemprop:name"},
	"og:description": {"og:description", "twitter:description", "description", "itemprop:description"},
	"og:site_name":   {"og:site_name", "application-name"},
	"og:type":        {"og:type"},
	"og:url":         {"og:url"},
	"og:locale":      {"og:locale"},
	"og:image:alt":   {"og:image:alt", "twitter:image:alt"},
	"og:image":       {"og:image:secure_url", "og:image", "og:image:url", "twitter:image", "twitter:image:src", "itemprop:image"},
}

func isWantedMeta(name string) bool {
	for _, list := range sources {
		if slices.Contains(list, name) {
			return true
		}
	}
	return false
}

// graph is the preview without its image.
func (p *page) graph() map[string]any {
	g := map[string]any{}
	set := func(key string, limit int, values ...string) {
		for _, v := range values {
			if v = clean(v, limit); v != "" {
				g[key] = v
				return
			}
		}
	}
	from := func(key string) (values []string) {
		for _, name := range sources[key] {
			values = append(values, p.meta[name])
		}
		return values
	}
	set("og:title", maxTitle, append(from("og:title"), p.title, p.header)...)
	set("og:description", maxDescription, append(from("og:description"), p.paragraphs, p.text)...)
	for _, key := range [4]string{"og:site_name", "og:type", "og:locale", "og:image:alt"} {
		set(key, maxValue, from(key)...)
	}
	if u, err := url.Parse(clean(p.meta["og:url"], maxLink)); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && len(u.String()) <= maxLink {
		g["og:url"] = u.String()
	}
	return g
}

// images are the addresses of images, the best first, of a page that was found at an address.
func (p *page) images(at *url.URL) (list []*url.URL) {
	if base, err := at.Parse(strings.TrimSpace(p.base)); err == nil {
		at = base
	}
	var stated []string
	for _, name := range sources["og:image"] {
		stated = addImage(stated, p.meta[name])
	}
	for _, src := range slices.Concat(stated, p.links, p.pictures) {
		u, err := at.Parse(strings.TrimSpace(src))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" {
			continue
		}
		u.Fragment = ""
		if !slices.ContainsFunc(list, func(o *url.URL) bool { return o.String() == u.String() }) {
			list = append(list, u)
		}
	}
	return list
}

// clean makes a text one line of at most some bytes, without characters that nobody sees or that turn the text around them.
func clean(text string, limit int) string {
	var b strings.Builder
	space := false
	for _, c := range text { // what is no UTF-8 comes as U+FFFD
		switch {
		case unicode.IsSpace(c):
			space = b.Len() > 0
			continue
		case unicode.IsControl(c), c >= 0x202a && c <= 0x202e, c >= 0x2066 && c <= 0x2069:
			continue
		}
		if b.Len()+1+utf8.RuneLen(c)+len("…") > limit {
			b.WriteString("…")
			return b.String()
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(c)
	}
	return b.String()
}
