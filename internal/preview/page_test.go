package preview

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/unicode"
)

// look gives the preview of a page at https://example.org/news/today, and its images.
func look(t *testing.T, contentType, page string) (graph, images string) {
	t.Helper()
	at, err := url.Parse("https://example.org/news/today")
	if err != nil {
		t.Fatal(err)
	}
	p := readPage(utf8Reader(strings.NewReader(page), contentType))
	text, err := json.Marshal(p.graph())
	if err != nil {
		t.Fatal(err)
	}
	return string(text), fmt.Sprint(p.images(at))
}

func TestPage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ page, graph, images string }{
		"OpenGraph": {
			`<html><head><title>Site: other</title><meta property="og:title" content=" The &quot;Rock&quot; "><meta property="og:title" content="second">
			<meta property="og:type" content="video.movie"/><meta property="og:url" content="http://www.imdb.com/title/tt0117500/">
			<meta property="og:image" content="../pic.png"><meta property="og:image:alt" content="A rock"><meta name="twitter:title" content="no">
			<meta property="og:video" content="https://tracker.example/"><body><img src="body.png">`,
			`{"og:image:alt":"A rock","og:title":"The \"Rock\"","og:type":"video.movie","og:url":"http://www.imdb.com/title/tt0117500/"}`,
			`[https://example.org/pic.png https://example.org/news/body.png]`,
		},
		"a Twitter card": {
			`<meta name="twitter:title" content="T"><meta name="twitter:description" content="D"><meta name="twitter:image:src" content="//cdn.example/i.jpg">`,
			`{"og:description":"D","og:title":"T"}`, `[https://cdn.example/i.jpg]`,
		},
		"plain HTML": {
			`<!doctype html><html><head><title>
			A &amp; B </title><meta name=DESCRIPTION content="What it is"><base href="https://static.example/x/"><link rel="image_src" href="l.png"></head>`,
			`{"og:description":"What it is","og:title":"A \u0026 B"}`, `[https://static.example/x/l.png]`,
		},
		"nothing but text": {
			`<body><nav>Home</nav><h1>A <em>great</em> day</h1><script>var x = "<p>no</p>"</script><img src=dot.gif width=1 height=1><img src="data:image/png;base64,xx">
			<p>It began<br>early.</p><div>Menu</div><p>It ended <b>late</b>.</p><img src="/day.jpg" width=640><footer><p>Imprint</p></footer>`,
			`{"og:description":"It began early. It ended late.","og:title":"A great day"}`, `[https://example.org/day.jpg]`,
		},
		"no paragraphs":             {`<body>Just <i>words</i>`, `{"og:description":"Just words"}`, `[]`},
		"microdata":                 {`<meta itemprop="name" content="N"><meta itemprop="image" content="/m.png">`, `{"og:title":"N"}`, `[https://example.org/m.png]`},
		"nothing":                   {``, `{}`, `[]`},
		"other schemes":             {`<meta property="og:url" content="javascript:alert(1)"><meta property="og:image" content="file:///etc/passwd"><img src="ftp://x/y">`, `{}`, `[]`},
		"a bad address":             {`<base href="http://[::1"><meta property="og:image" content="http://%zz/"><meta property="og:url" content="http://[">`, `{}`, `[]`},
		"a turned and hidden title": {"<title>a\u202eb\u0000\u0007\u2066c\n\td</title>", `{"og:title":"ab` + "\ufffd" + `c d"}`, `[]`},
		"XML": {
			`<?xml version="1.0"?><!DOCTYPE html [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY x SYSTEM "file:///etc/passwd">]>
			<html xmlns="http://www.w3.org/1999/xhtml"><head><title>&b;&x;</title></head></html>`,
			`{"og:title":"\u0026b;\u0026x;"}`, `[]`,
		},
	} {
		graph, images := look(t, "text/html", c.page)
		if graph != c.graph || images != c.images {
			t.Errorf("%s:\n got %s %s\nwant %s %s", name, graph, images, c.graph, c.images)
		}
	}
}

func TestPage_charsets(t *testing.T) {
	t.Parallel()
	encode := func(text string, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	latin := encode(charmap.Windows1252.NewEncoder().String("<title>Größe €</title>"))
	for name, c := range map[string]struct{ contentType, page, title string }{
		"stated in the header":     {"text/html; charset=windows-1252", latin, "Größe €"},
		"stated in the page":       {"text/html", `<meta charset="windows-1252">` + latin, "Größe €"},
		"not stated":               {"text/html", latin, "Größe €"},
		"UTF-8, not stated":        {"text/html", strings.Repeat(" ", 5000) + "<title>Größe €</title>", "Größe €"},
		"UTF-8, cut in the middle": {"text/html", strings.Repeat(" ", peeked-len("<title>Gr\xc3")) + "<title>Größe</title>", "Größe"},
		"UTF-16":                   {"text/html", encode(unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String("<title>Größe</title>")), "Größe"},
		"Japanese":                 {"text/html; charset=Shift_JIS", encode(japanese.ShiftJIS.NewEncoder().String("<title>日本</title>")), "日本"},
		"unknown":                  {"text/html; charset=klingon", "<title>Größe</title>", "Größe"},
		"broken UTF-8":             {"text/html; charset=utf-8", "<title>a\xffb\xc3</title>", "a\ufffdb\ufffd"},
	} {
		if graph, _ := look(t, c.contentType, c.page); graph != `{"og:title":"`+c.title+`"}` {
			t.Errorf("%s: got %s", name, graph)
		}
	}
}

// Whatever a page holds, its preview has at most 12 KiB.
func TestPage_bounds(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä ", 500_000)
	for name, page := range map[string]string{
		"a long title":           "<title>" + long,
		"long properties":        `<meta property="og:title" content="` + long + `"><meta property="og:url" content="http://x/` + long + `"><meta property="og:image" content="http://x/` + long + `">`,
		"a long text":            "<body>" + long + "<p>" + long,
		"many elements":          strings.Repeat("<p>x<img src=a.png>", 50_000),
		"elements in elements":   "<body>" + strings.Repeat("<div><b>", 100_000) + "x",
		"many attributes":        "<meta " + strings.Repeat(`a="b" property="x" `, 50_000) + ">",
		"an element without end": "<meta " + long,
		"entities":               "<title>" + strings.Repeat("&amp;&zwj;&#x202e;", 50_000),
	} {
		graph, images := look(t, "text/html", page)
		if len(graph) > 12<<10 || len(images) > 16<<10 {
			t.Errorf("%s: the preview has %d bytes, its images %d", name, len(graph), len(images))
		}
	}
}

func FuzzPage(f *testing.F) {
	f.Add("text/html", "<title>x</title><meta property=og:image content=/a.png><p>text")
	f.Add("text/html; charset=utf-16", "\xff\xfe<\x00p\x00>\x00")
	f.Fuzz(func(t *testing.T, contentType, page string) {
		if graph, _ := look(t, contentType, page); len(graph) > 12<<10 || !json.Valid([]byte(graph)) {
			t.Errorf("the preview is %.200q", graph)
		}
	})
}
