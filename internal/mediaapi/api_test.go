package mediaapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stoa/internal/server/servertest"
)

// client speaks HTTP with a server.
type client struct {
	t    *testing.T
	base string
}

func clientOf(t *testing.T, s *servertest.Server) *client {
	t.Helper()
	web := httptest.NewServer(s.Handler)
	t.Cleanup(web.Close)
	return &client{t, web.URL}
}

// onEach runs a test on both engines. The second argument is the media folder.
func onEach(t *testing.T, f func(t *testing.T, c *client, folder string), settings ...string) {
	t.Helper()
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "media")
	servertest.Each(t, func(t *testing.T, s *servertest.Server) { f(t, clientOf(t, s), folder) },
		append(settings, "STOA_MEDIA_FOLDER="+folder)...)
}

type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

func (c *client) send(method, path, token string, header http.Header, body io.Reader) answer {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{c.t, res.StatusCode, res.Header, text}
}

func (c *client) get(path, token string) answer { return c.send("GET", path, token, nil, nil) }

func (a answer) want(status int, errcode string) answer {
	a.t.Helper()
	var e struct{ Errcode, Error string }
	if errcode != "" {
		if err := json.Unmarshal(a.body, &e); err != nil || e.Error == "" {
			a.t.Fatalf("got %d %q, want an error", a.status, a.body)
		}
	}
	if a.status != status || e.Errcode != errcode {
		a.t.Fatalf("got %d %.200q, want %d %s", a.status, a.body, status, errcode)
	}
	return a
}

func (a answer) text(key string) string {
	a.t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.body, &m); err != nil {
		a.t.Fatal(err)
	}
	s, _ := m[key].(string)
	return s
}

func (c *client) register(name string) (token string) {
	c.t.Helper()
	return c.send("POST", "/_matrix/client/v3/register", "", nil,
		strings.NewReader(`{"username":"`+name+`","password":"pw of it","auth":{"type":"m.login.dummy"}}`)).want(200, "").text("access_token")
}

// upload gives the path SERVER/ID of an upload.
func (c *client) upload(token, contentType, name string, body []byte) string {
	c.t.Helper()
	a := c.send("POST", "/_matrix/media/v3/upload?filename="+name, token, http.Header{"Content-Type": {contentType}}, bytes.NewReader(body))
	path, ok := strings.CutPrefix(a.want(200, "").text("content_uri"), "mxc://stoa.test/")
	if !ok {
		c.t.Fatalf("upload answered %s", a.body)
	}
	return "stoa.test/" + path
}

const (
	download     = "/_matrix/client/v1/media/download/"
	oldDownload  = "/_matrix/media/v3/download/"
	getThumbnail = "/_matrix/client/v1/media/thumbnail/"
)

func TestUpload_and_download(t *testing.T) {
	onEach(t, func(t *testing.T, c *client, folder string) {
		anna, ben := c.register("anna"), c.register("ben")
		text := bytes.Repeat([]byte("0123456789"), 100_000)
		path := c.upload(anna, "text/plain; charset=utf-8", "na%C3%AFve%20%22plan%22.txt", text)

		got := c.get(download+path, ben).want(200, "")
		if !bytes.Equal(got.body, text) {
			t.Fatal("the download is not what was uploaded")
		}
		for name, want := range map[string]string{
			"Content-Type": "text/plain; charset=utf-8", "Cross-Origin-Resource-Policy": "cross-origin", "X-Content-Type-Options": "nosniff",
			"Content-Length": "1000000", "Accept-Ranges": "bytes", "Content-Disposition": "inline; filename*=utf-8''na%C3%AFve%20%22plan%22.txt",
		} {
			if got.header.Get(name) != want {
				t.Errorf("%s: %q, want %q", name, got.header.Get(name), want)
			}
		}
		if !strings.Contains(got.header.Get("Content-Security-Policy"), "sandbox") || !strings.Contains(got.header.Get("Cache-Control"), "immutable") {
			t.Errorf("headers are %v", got.header)
		}

		part := c.send("GET", download+path, ben, http.Header{"Range": {"bytes=10-19"}}, nil).want(206, "")
		if string(part.body) != "0123456789" || part.header.Get("Content-Range") != "bytes 10-19/1000000" {
			t.Errorf("a range gives %q, %s", part.body, part.header.Get("Content-Range"))
		}
		c.send("GET", download+path, ben, http.Header{"If-None-Match": {got.header.Get("Etag")}}, nil).want(304, "")
		c.send("GET", download+path, ben, http.Header{"Range": {"bytes=1000000-"}}, nil).want(416, "")
		if head := c.send("HEAD", download+path, ben, nil, nil).want(200, ""); len(head.body) > 0 || head.header.Get("Content-Length") != "1000000" {
			t.Errorf("HEAD answers %v and %d bytes", head.header, len(head.body))
		}
		if named := c.get(download+path+"/other.txt", ben); named.header.Get("Content-Disposition") != "inline; filename=other.txt" {
			t.Errorf("with a name it is %s", named.header.Get("Content-Disposition"))
		}

		c.get(download+path, "").want(401, "M_MISSING_TOKEN")
		if old := c.get(oldDownload+path, "").want(200, ""); !bytes.Equal(old.body, text) {
			t.Error("the old address gives something else")
		}
		c.get(download+"stoa.test/nothing", ben).want(404, "M_NOT_FOUND")
		c.get(download+"elsewhere.test/abc", ben).want(404, "M_NOT_FOUND")
		c.get(download+"stoa.test/..%2F..%2Fetc", ben).want(404, "M_NOT_FOUND")
		if size := c.get("/_matrix/client/v1/media/config", ben).want(200, ""); string(size.body) != `{"m.upload.size":104857600}` {
			t.Errorf("the configuration is %s", size.body)
		}

		other := c.upload(ben, "image/svg+xml", "", text) // the same bytes
		if svg := c.get(download+other, ben).want(200, ""); svg.header.Get("Content-Disposition") != "attachment" {
			t.Errorf("what a browser would run is shown %s", svg.header.Get("Content-Disposition"))
		}
		if n := files(t, folder); t.Name() == "TestUpload_and_download/sqlite" && n != 1 {
			t.Errorf("two uploads of the same bytes take %d files", n)
		}
	})
}

func files(t *testing.T, folder string) (n int) {
	t.Helper()
	err := filepath.WalkDir(folder, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUpload_bounds(t *testing.T) {
	onEach(t, func(t *testing.T, c *client, folder string) {
		anna := c.register("anna")
		up := func(token, query string, header http.Header, body io.Reader) answer {
			return c.send("POST", "/_matrix/media/v3/upload"+query, token, header, body)
		}
		up("", "", nil, strings.NewReader("x")).want(401, "M_MISSING_TOKEN")
		up(anna, "", nil, bytes.NewReader(make([]byte, 1001))).want(413, "M_TOO_LARGE")
		up(anna, "", nil, io.MultiReader(bytes.NewReader(make([]byte, 1001)))).want(413, "M_TOO_LARGE") // without a length
		up(anna, "?filename="+strings.Repeat("n", 256), nil, strings.NewReader("x")).want(400, "M_INVALID_PARAM")
		up(anna, "?filename=%00", nil, strings.NewReader("x")).want(400, "M_INVALID_PARAM")
		up(anna, "", http.Header{"Content-Type": {strings.Repeat("t", 256)}}, strings.NewReader("x")).want(400, "M_INVALID_PARAM")
		up(anna, "", nil, nil).want(200, "") // an empty file is one
		up(anna, "", nil, io.MultiReader(bytes.NewReader(make([]byte, 1000)))).want(200, "")
		if n := files(t, folder); n > 4 {
			t.Errorf("refused uploads leave files: %d", n)
		}
	}, "STOA_MEDIA_MAX_UPLOAD=1000")
}

func TestDaily_quota(t *testing.T) {
	t.Parallel()
	s := servertest.SQLite(t, "STOA_MEDIA_DAILY_UPLOADS=2000", "STOA_RATE_LIMITS=on")
	c := clientOf(t, s)
	anna, ben := c.register("anna"), c.register("ben")
	c.upload(anna, "text/plain", "", make([]byte, 1500))
	body := func() io.Reader { return bytes.NewReader(make([]byte, 600)) }
	c.send("POST", "/_matrix/media/v3/upload", anna, nil, body()).want(403, "M_FORBIDDEN")
	c.send("POST", "/_matrix/media/v3/upload", anna, nil, io.MultiReader(body())).want(403, "M_FORBIDDEN")
	c.send("POST", "/_matrix/media/v3/upload", ben, nil, body()).want(200, "")
	c.upload(anna, "text/plain", "", make([]byte, 500))
}

func TestBroken_upload_leaves_nothing(t *testing.T) {
	onEach(t, func(t *testing.T, c *client, folder string) {
		anna := c.register("anna")
		ctx, cancel := context.WithCancel(t.Context())
		reader, writer := io.Pipe()
		r, err := http.NewRequestWithContext(ctx, "POST", c.base+"/_matrix/media/v3/upload", reader)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+anna)
		done := make(chan error, 1)
		go func() {
			res, err := http.DefaultClient.Do(r)
			if err == nil {
				err = res.Body.Close()
			}
			done <- err
		}()
		if _, err := writer.Write(make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		before := files(t, folder)
		cancel()
		writer.CloseWithError(ctx.Err()) // else the client may wait for its body, although it has been cancelled
		<-done
		for range 5000 {
			if files(t, folder) == 0 {
				return
			}
			time.Sleep(time.Millisecond) // the server notices by itself
		}
		t.Errorf("%d files while it was under way, %d are left", before, files(t, folder))
	})
}

func TestCreate_then_upload(t *testing.T) {
	onEach(t, func(t *testing.T, c *client, _ string) {
		anna, ben := c.register("anna"), c.register("ben")
		a := c.send("POST", "/_matrix/media/v1/create", anna, nil, nil).want(200, "")
		path := strings.TrimPrefix(a.text("content_uri"), "mxc://")
		if !bytes.Contains(a.body, []byte(`"unused_expires_at":1`)) {
			t.Errorf("create answers %s", a.body)
		}
		c.get(download+path+"?timeout_ms=0", ben).want(504, "M_NOT_YET_UPLOADED")
		c.get(download+path+"?timeout_ms=x", ben).want(400, "M_INVALID_PARAM")

		var waiting sync.WaitGroup
		for range 3 {
			waiting.Go(func() {
				if got := c.get(download+path, ben); got.status != 200 || string(got.body) != "late" {
					t.Errorf("a download that waits gets %d %q", got.status, got.body)
				}
			})
		}
		put := func(token, path, body string) answer {
			return c.send("PUT", "/_matrix/media/v3/upload/"+path, token, nil, strings.NewReader(body))
		}
		put(ben, path, "mine").want(403, "M_FORBIDDEN")
		put(anna, "stoa.test/never-created", "x").want(404, "M_NOT_FOUND")
		put(anna, "elsewhere.test/abc", "x").want(404, "M_NOT_FOUND")
		put(anna, path, "late").want(200, "")
		put(anna, path, "again").want(409, "M_CANNOT_OVERWRITE_MEDIA")
		waiting.Wait()
		for range 100 {
			c.send("POST", "/_matrix/media/v1/create", anna, nil, nil).want(200, "")
		}
		c.send("POST", "/_matrix/media/v1/create", anna, nil, nil).want(429, "M_LIMIT_EXCEEDED")
	})
}

func picture(t *testing.T, w, h int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for x := range w {
		for y := range h {
			img.Set(x, y, color.RGBA{uint8(x), uint8(y), 0, 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestThumbnails(t *testing.T) {
	onEach(t, func(t *testing.T, c *client, folder string) {
		anna := c.register("anna")
		src := picture(t, 800, 400)
		path := c.upload(anna, "application/x-lies", "", src)
		for range 2 { // made, and kept
			got := c.get(getThumbnail+path+"?width=96&height=96&method=crop", anna).want(200, "")
			config, err := png.DecodeConfig(bytes.NewReader(got.body))
			if err != nil || config.Width != 96 || config.Height != 96 || got.header.Get("Content-Type") != "image/png" {
				t.Fatalf("a thumbnail is %s of %d × %d: %v", got.header.Get("Content-Type"), config.Width, config.Height, err)
			}
			c.send("GET", getThumbnail+path+"?width=96&height=96&method=crop", anna, http.Header{"If-None-Match": {got.header.Get("Etag")}}, nil).want(304, "")
		}
		if got := c.get(getThumbnail+path+"?width=1600&height=1600", anna).want(200, ""); !bytes.Equal(got.body, src) {
			t.Error("what is small enough is not the original")
		}
		if got := c.get(getThumbnail+path+"?width=5000&height=5000", anna).want(200, ""); !bytes.Equal(got.body, src) {
			t.Error("a size above all is not the original")
		}
		for query, errcode := range map[string]string{
			"?height=9": "M_MISSING_PARAM", "?width=x&height=9": "M_INVALID_PARAM", "?width=0&height=9": "M_INVALID_PARAM",
			"?width=9&height=9&method=stretch": "M_INVALID_PARAM", "?width=9&height=9&animated=maybe": "M_INVALID_PARAM",
		} {
			c.get(getThumbnail+path+query, anna).want(400, errcode)
		}
		text := c.upload(anna, "image/png", "", []byte("this is a text that says that it is a picture"))
		c.get(getThumbnail+text+"?width=32&height=32", anna).want(400, "M_INVALID_PARAM")
		c.get(getThumbnail+path+"?width=32&height=32", "").want(401, "M_MISSING_TOKEN")
		c.get("/_matrix/media/v3/thumbnail/"+path+"?width=32&height=32", "").want(200, "")
	})
}

func TestFreeze(t *testing.T) {
	t.Parallel()
	c := clientOf(t, servertest.SQLite(t, "STOA_MEDIA_FREEZE=2020-01-01"))
	anna := c.register("anna")
	path := c.upload(anna, "image/png", "", picture(t, 100, 100))
	c.get(download+path, anna).want(200, "")
	c.get(oldDownload+path, "").want(404, "M_NOT_FOUND")
	c.get("/_matrix/media/r0/thumbnail/"+path+"?width=32&height=32", "").want(404, "M_NOT_FOUND")
	later := clientOf(t, servertest.SQLite(t, "STOA_MEDIA_FREEZE=2099-01-01"))
	path = later.upload(later.register("anna"), "text/plain", "", []byte("x"))
	later.get("/_matrix/media/r0/download/"+path, "").want(200, "")
}

func TestEvery_address_serves(t *testing.T) {
	t.Parallel()
	c := clientOf(t, servertest.SQLite(t))
	anna := c.register("anna")
	src := picture(t, 64, 64)
	uri := c.send("POST", "/_matrix/media/v1/create", anna, nil, nil).want(200, "").text("content_uri")
	mediaID := strings.TrimPrefix(uri, "mxc://stoa.test/")
	c.send("PUT", "/_matrix/media/v3/upload/stoa.test/"+mediaID, anna, http.Header{"Content-Type": {"image/png"}}, bytes.NewReader(src)).want(200, "")
	for _, address := range []string{
		"/_matrix/client/v1/media/download/stoa.test/" + mediaID,
		"/_matrix/client/v1/media/download/stoa.test/" + mediaID + "/a.png",
		"/_matrix/client/v1/media/thumbnail/stoa.test/" + mediaID + "?width=64&height=64",
		"/_matrix/media/v3/download/stoa.test/" + mediaID,
		"/_matrix/media/v3/download/stoa.test/" + mediaID + "/a.png",
		"/_matrix/media/v3/thumbnail/stoa.test/" + mediaID + "?width=64&height=64",
	} {
		if got := c.get(address, anna).want(200, ""); !bytes.Equal(got.body, src) || got.header.Get("Content-Type") != "image/png" {
			t.Errorf("%s: %d bytes of %s", address, len(got.body), got.header.Get("Content-Type"))
		}
	}
	for _, address := range []string{"/_matrix/client/v1/media/config", "/_matrix/media/v3/config"} {
		c.get(address, anna).want(200, "")
		c.get(address, "").want(401, "M_MISSING_TOKEN")
	}
	for _, r := range [][2]string{{"POST", "/_matrix/media/v1/create"}, {"PUT", "/_matrix/media/v3/upload/stoa.test/" + mediaID}, {"POST", "/_matrix/media/v3/upload"}} {
		c.send(r[0], r[1], "", nil, strings.NewReader("x")).want(401, "M_MISSING_TOKEN")
	}
}

func TestPreview_url(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/page":
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, `<title>The page</title><meta property="og:image" content="test.png">`)
		case "/test.png":
			if err := png.Encode(w, image.NewGray(image.Rect(0, 0, 27, 12))); err != nil {
				t.Error(err)
			}
		}
	}))
	t.Cleanup(site.Close)
	link := "?url=" + url.QueryEscape(site.URL+"/page")
	t.Run("allowed", func(t *testing.T) {
		onEach(t, func(t *testing.T, c *client, _ string) {
			anna := c.register("anna")
			for _, path := range []string{"/_matrix/client/v1/media/preview_url", "/_matrix/media/v3/preview_url", "/_matrix/media/r0/preview_url"} {
				got := c.get(path+link+"&ts=1510610716656", anna).want(200, "")
				if got.text("og:title") != "The page" || !bytes.Contains(got.body, []byte(`"og:image:width":27`)) {
					t.Errorf("%s answers %s", path, got.body)
				}
				pic := strings.TrimPrefix(got.text("og:image"), "mxc://")
				if shown := c.get(download+pic, anna).want(200, ""); shown.header.Get("Content-Type") != "image/png" {
					t.Errorf("the image is %v", shown.header)
				}
				c.get(path+link, "").want(401, "M_MISSING_TOKEN")
				c.get(path, anna).want(400, "M_MISSING_PARAM")
				c.get(path+link+"&ts=x", anna).want(400, "M_INVALID_PARAM")
				c.get(path+"?url=nonsense", anna).want(400, "M_INVALID_PARAM")
			}
		}, "STOA_FEDERATION_ALLOW_PRIVATE=true")
	})
	for name, c := range map[string]struct {
		setting, code string
		status        int
	}{
		"private":     {"STOA_FEDERATION_ALLOW_PRIVATE=false", "M_NOT_FOUND", 404},
		"off":         {"STOA_URL_PREVIEWS=false", "M_UNRECOGNIZED", 404},
		"blocked":     {"STOA_URL_PREVIEW_BLOCK=example.net,127.0.0.1", "M_FORBIDDEN", 403},
		"not allowed": {"STOA_URL_PREVIEW_ALLOW=example.net", "M_FORBIDDEN", 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := clientOf(t, servertest.SQLite(t, c.setting))
			server.get("/_matrix/client/v1/media/preview_url"+link, server.register("anna")).want(c.status, c.code)
		})
	}
}
