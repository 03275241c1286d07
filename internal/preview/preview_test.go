package preview_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stoa/internal/httpkit"
	"stoa/internal/media"
	"stoa/internal/outbound"
	"stoa/internal/preview"
	"stoa/internal/store"
	"stoa/internal/store/storetest"
	"stoa/internal/who"
	"stoa/matrix/id"
	"stoa/matrix/mxerr"
)

// site is a web server at example.org and below; other names are not known, but for inside.example, which is private.
type site struct {
	http.ServeMux
	requests atomic.Int64
	*httptest.Server
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	switch host = strings.TrimSuffix(host, "."); {
	case host == "example.org" || strings.HasSuffix(host, ".example.org"):
		return []netip.Addr{netip.MustParseAddr("93.184.216.34")}, nil
	case host == "inside.example":
		return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (s *site) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
}

func (s *site) serve(pattern, contentType, body string) {
	s.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		io.WriteString(w, body)
	})
}

type fixture struct {
	*site
	*preview.Previews
	t     *testing.T
	store *store.Store
	media *media.Media
	user  who.User
	now   *atomic.Int64 // on SQLite
}

func each(t *testing.T, f func(*fixture)) {
	t.Helper()
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open func(...storetest.Option) *store.Store) { f(newFixture(t, open, nil)) })
}

func newFixture(t *testing.T, open func(...storetest.Option) *store.Store, change func(*preview.Options)) *fixture {
	t.Helper()
	f := &fixture{site: newSite(t), t: t, now: &atomic.Int64{}}
	f.now.Store(time.Now().UnixMilli())
	f.store = open(func(o *store.Options) { o.Clock = func() time.Time { return time.UnixMilli(f.now.Load()) } })
	server, err := id.ParseServerName(storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	f.media, err = media.New(media.Options{Store: f.store, ServerName: server, Folder: filepath.Join(t.TempDir(), "media"), MaxUpload: 1 << 20, ThumbnailMemory: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	f.user.UserID, err = id.ParseUserID("@anna:" + storetest.ServerName)
	if err != nil {
		t.Fatal(err)
	}
	opt := preview.Options{
		Store: f.store, Images: f.media, Limits: (*httpkit.UserLimits)(nil), ServerName: storetest.ServerName,
		Outbound: outbound.Options{Resolver: f.site, Dial: f.dial},
	}
	if change != nil {
		change(&opt)
	}
	f.Previews = preview.New(opt)
	return f
}

func onSQLite(t *testing.T, change func(*preview.Options)) *fixture {
	t.Helper()
	t.Parallel()
	return newFixture(t, func(o ...storetest.Option) *store.Store { return storetest.SQLite(t, o...) }, change)
}

// get gives the preview of a path of the site, or of a link.
func (f *fixture) get(link string) (map[string]any, error) {
	f.t.Helper()
	if strings.HasPrefix(link, "/") {
		link = "http://example.org" + link
	}
	text, err := f.Preview(f.t.Context(), f.user, link, "de-DE, en;q=0.5")
	if err != nil {
		return nil, err
	}
	var graph map[string]any
	if err := json.Unmarshal(text, &graph); err != nil {
		f.t.Fatalf("%s: %v", text, err)
	}
	return graph, nil
}

func (f *fixture) want(link, want string) map[string]any {
	f.t.Helper()
	graph, err := f.get(link)
	if got := fmt.Sprint(graph["og:title"]); err != nil || got != want {
		f.t.Fatalf("%s gives %v, %v; want %s", link, graph, err, want)
	}
	return graph
}

func (f *fixture) wantErr(link, code string) error {
	f.t.Helper()
	graph, err := f.get(link)
	if !mxerr.Is(err, code) {
		f.t.Errorf("%s gives %v, %v; want %s", link, graph, err, code)
	}
	return err
}

// content is what an mxc: address of this server names; nil if it is gone.
func (f *fixture) content(address any) []byte {
	f.t.Helper()
	mediaID, ok := strings.CutPrefix(fmt.Sprint(address), "mxc://"+storetest.ServerName+"/")
	if !ok {
		f.t.Fatalf("%v is no address of this server", address)
	}
	file, err := f.media.Open(f.t.Context(), media.URI{Origin: storetest.ServerName, ID: mediaID}, 0)
	if mxerr.Is(err, mxerr.CodeNotFound) {
		return nil
	}
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		f.t.Fatal(err)
	}
	return text
}

func picture(t *testing.T, w, h int) string {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, w, h))); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPreview(t *testing.T) {
	each(t, func(f *fixture) {
		pic := picture(f.t, 30, 20)
		f.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Language") != "de, *;q=0.5" || !strings.Contains(r.UserAgent(), "Stoa") || r.Header.Get("Cookie") != "" {
				f.t.Errorf("the site is asked with %v", r.Header)
			}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, `<meta property="og:title" content="T"><meta property="og:image" content="/pic">`)
		})
		f.serve("/pic", "image/png", pic)
		graph := f.want("/page#part", "T")
		if graph["og:image:width"] != 30.0 || graph["og:image:height"] != 20.0 || graph["og:image:type"] != "image/png" || graph["matrix:image:size"] != float64(len(pic)) {
			f.t.Errorf("the preview is %v", graph)
		}
		if got := f.content(graph["og:image"]); string(got) != pic {
			f.t.Errorf("the image has %d bytes", len(got))
		}
		if again := f.want("/page", "T"); again["og:image"] != graph["og:image"] || f.requests.Load() != 2 {
			f.t.Errorf("%d requests, and the image is %v", f.requests.Load(), again["og:image"])
		}
	})
}

func TestPreview_of_other_things(t *testing.T) {
	f := onSQLite(t, nil)
	pic := picture(t, 3, 4)
	f.serve("/direct.png", "image/png", pic)
	f.serve("/wrong", "image/jpeg", pic)
	f.serve("/svg", "image/svg+xml", "<svg/>")
	f.serve("/pdf", "application/pdf", "%PDF-1.4")
	f.serve("/unstated", "", "<!doctype html><title>T</title>")
	f.serve("/bad", "text/", "<!doctype html><title>T</title>")
	f.serve("/broken", "text/html", `<title>T</title><meta property="og:image" content="/svg"><img src="/none"><img src="/direct.png">`)
	f.serve("/second", "text/html", `<title>T</title><meta property="og:image" content="/none"><img src="/direct.png">`)
	for _, path := range []string{"/direct.png", "/wrong"} {
		if graph, err := f.get(path); err != nil || graph["og:image:width"] != 3.0 || graph["og:image:type"] != "image/png" {
			t.Errorf("%s gives %v, %v", path, graph, err)
		}
	}
	for _, path := range []string{"/svg", "/pdf"} {
		if graph, err := f.get(path); err != nil || len(graph) > 0 {
			t.Errorf("%s gives %v, %v", path, graph, err)
		}
	}
	f.want("/unstated", "T")
	f.want("/bad", "T")
	if graph := f.want("/broken", "T"); len(graph) != 1 {
		t.Errorf("without an image that can be had: %v", graph)
	}
	if graph := f.want("/second", "T"); graph["og:image:width"] != 3.0 {
		t.Errorf("the second image is not taken: %v", graph)
	}
}

// Nobody learns from an error which names and ports exist inside, and what is at them.
func TestPreview_errors_tell_nothing(t *testing.T) {
	f := onSQLite(t, nil)
	f.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("u"), http.StatusFound)
	})
	f.HandleFunc("/hangup", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	f.serve("/img", "text/html", `<title>T</title><meta property="og:image" content="http://inside.example/x.png">`)
	texts := map[string]bool{}
	for _, link := range []string{
		"http://inside.example/", "http://unknown.example/", "http://127.0.0.1/", "http://[::1]:8008/", "http://2130706433/", "http://example.org:22/",
		"/hangup", "/to?u=http://inside.example/", "/to?u=http://unknown.example/", "/to?u=file:///etc/passwd", "/to?u=http://169.254.169.254/latest/meta-data",
	} {
		texts[f.wantErr(link, mxerr.CodeNotFound).Error()] = true
	}
	if len(texts) != 1 {
		t.Errorf("the errors differ: %v", texts)
	}
	if graph := f.want("/img", "T"); len(graph) != 1 {
		t.Errorf("an image inside gives %v", graph)
	}
	for _, link := range []string{"", "example.org", "ftp://example.org/", "http://", "http://anna:pw@example.org/", "javascript:alert(1)", "http://[::1", "http://example.org/" + strings.Repeat("x", 5000)} {
		f.wantErr(link+"", mxerr.CodeInvalidParam)
	}
}

func TestPreview_bounds(t *testing.T) {
	f := onSQLite(t, nil)
	f.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	if err := f.wantErr("/loop", mxerr.CodeNotFound); !strings.Contains(fmt.Sprint(err), "5 times") {
		t.Errorf("a loop gives %v", err)
	}
	f.HandleFunc("/gone", http.NotFound)
	if err := f.wantErr("/gone", mxerr.CodeNotFound); !strings.Contains(fmt.Sprint(err), "status 404") {
		t.Errorf("a page that is gone gives %v", err)
	}
	f.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, err := io.WriteString(w, "<title>Endless</title>")
		for err == nil {
			_, err = io.WriteString(w, strings.Repeat("<div>", 10_000))
		}
	})
	f.want("/endless", "Endless")
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	io.WriteString(z, "<title>Bomb</title>")
	z.Write(make([]byte, 256<<20))
	z.Close()
	f.HandleFunc("/bomb", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(bomb.Bytes())
	})
	f.want("/bomb", "Bomb")
	entities := "<!DOCTYPE html [<!ENTITY l0 \"lol\">"
	for i := range 10 {
		entities += fmt.Sprintf("<!ENTITY l%d \"%s\">", i+1, strings.Repeat(fmt.Sprintf("&l%d;", i), 10))
	}
	f.serve("/lol", "application/xhtml+xml", `<?xml version="1.0"?>`+entities+"]><html><title>&l9;</title></html>")
	f.want("/lol", "&l9;")

	for name, body := range map[string]string{
		"pixels": hugePNG(50_000, 50_000),
		"long":   picture(t, 10, 10) + strings.Repeat("x", preview.MaxImage),
		"empty":  "",
	} {
		f.serve("/"+name+".png", "image/png", body)
		f.serve("/"+name, "text/html", `<title>T</title><meta property="og:image" content="/`+name+`.png">`)
		if graph := f.want("/"+name, "T"); len(graph) != 1 {
			t.Errorf("the image %s gives %v", name, graph)
		}
	}
}

// hugePNG has a header that claims a size, and no pixels.
func hugePNG(w, h uint32) string {
	head := append([]byte("IHDR"), 0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0)
	binary.BigEndian.PutUint32(head[4:], w)
	binary.BigEndian.PutUint32(head[8:], h)
	out := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), head...)
	return string(binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(head)))
}

// A picture that is to be turned when it is shown is as wide as it is shown.
func TestPreview_of_a_turned_image(t *testing.T) {
	f := onSQLite(t, nil)
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 30, 20)), nil); err != nil {
		t.Fatal(err)
	}
	exif := "Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
	f.serve("/turned", "image/jpeg", b.String()[:2]+"\xff\xe1\x00"+string(rune(len(exif)+2))+exif+b.String()[2:])
	if graph, err := f.get("/turned"); err != nil || graph["og:image:width"] != 20.0 || graph["og:image:height"] != 30.0 {
		t.Errorf("got %v, %v", graph, err)
	}
}

func TestPreview_lists(t *testing.T) {
	f := onSQLite(t, func(o *preview.Options) { o.Allow, o.Block = []string{"example.org"}, []string{"bad.example.org"} })
	f.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("u"), http.StatusFound)
	})
	f.serve("/", "text/html", "<title>T</title>")
	for _, link := range []string{"http://example.org", "http://WWW.example.org./", "http://a.b.example.org:81/"} {
		f.want(link, "T")
	}
	for _, link := range []string{"http://bad.example.org/", "http://x.BAD.example.org/", "http://other.example/", "http://notexample.org/", "http://93.184.216.34/"} {
		f.wantErr(link, mxerr.CodeForbidden)
	}
	f.wantErr("/to?u=http://bad.example.org/", mxerr.CodeNotFound)
}

func TestPreview_is_fetched_once_at_a_time(t *testing.T) {
	f := onSQLite(t, nil)
	arrived, release := make(chan bool, 10), make(chan bool)
	f.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		arrived <- true
		<-release
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<title>Slow</title>")
	})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := f.Preview(ctx, f.user, "http://example.org/slow", "de")
		first <- err
	}()
	<-arrived
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if graph, err := f.get("/slow"); err != nil || graph["og:title"] != "Slow" {
				t.Errorf("got %v, %v", graph, err)
			}
		})
	}
	cancel() // another request takes over, and no failure is kept
	if err := <-first; err == nil {
		t.Error("a request that was cancelled has an answer")
	}
	<-arrived
	close(release)
	all.Wait()
	if n := f.requests.Load(); n != 2 {
		t.Errorf("the site got %d requests", n)
	}
}

func TestPreview_limits(t *testing.T) {
	limits := httpkit.NewUserLimits(false, func() time.Time { return time.UnixMilli(0) })
	f := onSQLite(t, func(o *preview.Options) { o.Limits = limits })
	f.serve("/page/", "text/html", "<title>T</title>")
	f.serve("/big.jpg", "image/png", picture(t, 1, 1)+strings.Repeat("x", 6<<20))
	f.serve("/pic/", "text/html", `<title>T</title><img src="/big.jpg">`)
	images := 0
	for i := range 12 {
		if graph := f.want(fmt.Sprint("/pic/", i), "T"); graph["og:image"] != nil {
			images++
		}
	}
	if images != 10 { // of 64 MiB
		t.Errorf("%d images of 6 MiB are kept", images)
	}
	for i := range 108 {
		f.want(fmt.Sprint("/page/", i), "T")
	}
	f.wantErr("/page/108", mxerr.CodeLimitExceeded)
	f.want("/page/107", "T") // it is in the cache
}

func TestPreview_limits_fetches_of_a_user(t *testing.T) {
	f := onSQLite(t, nil)
	arrived := make(chan bool, 10)
	f.HandleFunc("/slow/", func(_ http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			if _, err := f.Preview(ctx, f.user, fmt.Sprint("http://example.org/slow/", i), ""); err == nil {
				t.Error("a page that does not answer has a preview")
			}
		})
		<-arrived
	}
	f.wantErr("/slow/5", mxerr.CodeLimitExceeded)
	cancel()
	all.Wait()
	f.serve("/page", "text/html", "<title>T</title>")
	f.want("/page", "T")
}

func TestPreview_expires(t *testing.T) {
	f := onSQLite(t, nil)
	title, pic := "first", picture(t, 3, 3)
	f.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if title == "" {
			w.WriteHeader(http.StatusBadGateway)
		}
		fmt.Fprintf(w, `<title>%s</title><meta property="og:image" content="/pic">`, title)
	})
	f.HandleFunc("/pic", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, pic) })
	pass := func(d time.Duration) { f.now.Add(d.Milliseconds()) }
	expire := func() {
		t.Helper()
		if err := f.Expire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	one := f.want("/page", "first")["og:image"]
	title = "second"
	pass(59 * time.Minute)
	f.want("/page", "first")
	pass(2 * time.Minute)
	if again := f.want("/page", "second")["og:image"]; again != one {
		t.Errorf("the same image is %v, then %v", one, again)
	}
	title = ""
	pass(2 * time.Hour)
	f.wantErr("/page", mxerr.CodeNotFound)
	title, pic = "third", picture(t, 4, 4)
	n := f.requests.Load()
	pass(9 * time.Minute)
	f.wantErr("/page", mxerr.CodeNotFound) // failures are in the cache too
	if f.requests.Load() != n {
		t.Error("a failure is not in the cache")
	}
	pass(2 * time.Minute)
	two := f.want("/page", "third")["og:image"]
	if two == one || f.content(one) == nil || f.content(two) == nil {
		t.Errorf("the old image %v has %d bytes, the new one %v has %d", one, len(f.content(one)), two, len(f.content(two)))
	}
	pass(6 * 24 * time.Hour)
	expire()
	if f.content(one) == nil || f.content(two) == nil {
		t.Error("an image has gone within a week")
	}
	n = f.requests.Load()
	f.want("/page", "third") // made anew, so it stays
	if f.requests.Load() == n {
		t.Error("an old preview is not fetched again")
	}
	pass(2 * 24 * time.Hour)
	expire()
	if f.content(one) != nil || f.content(two) == nil {
		t.Errorf("the replaced image has %d bytes, the one in use %d", len(f.content(one)), len(f.content(two)))
	}
	pass(8 * 24 * time.Hour)
	expire()
	if f.content(two) != nil {
		t.Error("an image of a preview that has gone is still there")
	}
}

// Two instances that fetch the same link at once leave one image.
func TestPreview_on_two_instances(t *testing.T) {
	each(t, func(f *fixture) {
		other := preview.New(preview.Options{
			Store: f.store, Images: f.media, Limits: (*httpkit.UserLimits)(nil), ServerName: storetest.ServerName,
			Outbound: outbound.Options{Resolver: f.site, Dial: f.dial},
		})
		pic := picture(f.t, 5, 5)
		var both sync.WaitGroup
		both.Add(2)
		f.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
			both.Done()
			both.Wait()
			io.WriteString(w, `<!doctype html><title>T</title><img src="/pic">`)
		})
		f.serve("/pic", "image/png", pic)
		answers := make(chan string, 2)
		for _, p := range []*preview.Previews{f.Previews, other} {
			go func() {
				text, err := p.Preview(f.t.Context(), f.user, "http://example.org/page", "")
				if err != nil {
					f.t.Error(err)
				}
				answers <- string(text)
			}()
		}
		if a, b := <-answers, <-answers; a != b {
			f.t.Errorf("one instance answers %s, the other %s", a, b)
		}
	})
}
