package preview

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/text/language"

	"stoa/internal/blob"
	"stoa/internal/httpkit"
	"stoa/internal/outbound"
	"stoa/internal/store"
	"stoa/internal/store/previewdb"
	"stoa/internal/thumbnail"
)

// failure says why there is no preview: a text for everybody, and the cause for the log.
type failure struct {
	text  string
	cause error
}

func (f failure) Error() string { return f.cause.Error() }

// unreachable is the answer to all that happens below HTTP, so that it tells nothing of the network of this server.
func unreachable(cause error) error {
	return failure{fmt.Sprintf("The link can't be reached, or does not answer within %.0f seconds", fetchTime.Seconds()), cause}
}

// fetch makes one preview.
type fetch struct {
	*Previews
	user, lang string
	before     previewdb.Preview // what was known; its image may stay
}

// run fetches a page and its image. Errors: failure, or that of the store.
func (f *fetch) run(ctx context.Context, u *url.URL) (previewdb.Preview, error) {
	res, err := f.get(ctx, u, "text/html, application/xhtml+xml, image/*;q=0.9, */*;q=0.1")
	if err != nil {
		return f.before, err
	}
	defer res.Body.Close()
	u = res.Request.URL // after redirects
	src := bufio.NewReader(res.Body)
	switch contentType := typeOf(res, src); {
	case strings.HasPrefix(contentType, "image/"):
		row, err := f.keepImage(ctx, map[string]any{}, res, src)
		if errors.Is(err, errNoPicture) {
			return f.keep(ctx, f.row(map[string]any{}, ""))
		}
		return row, err
	case contentType == "text/html" || contentType == "application/xhtml+xml":
		page := readPage(utf8Reader(io.LimitReader(src, maxHTML), res.Header.Get("Content-Type")))
		return f.addImage(ctx, page.graph(), page.images(u))
	default:
		return f.keep(ctx, f.row(map[string]any{}, ""))
	}
}

// get sends a request. Errors are failures.
func (f *fetch) get(ctx context.Context, u *url.URL, accept string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, unreachable(err)
	}
	r.Header.Set("Accept", accept)
	if f.lang != "" {
		r.Header.Set("Accept-Language", f.lang+", *;q=0.5")
	}
	res, err := f.web.Do(r)
	switch {
	case errors.Is(err, outbound.ErrRedirects):
		return nil, failure{fmt.Sprintf("The link is redirected more than %d times", maxHops), err}
	case err != nil:
		return nil, unreachable(err)
	case res.StatusCode != http.StatusOK:
		return nil, failure{fmt.Sprintf("The site answers with status %d", res.StatusCode), errors.Join(errors.New(res.Status), res.Body.Close())}
	}
	return res, nil
}

// typeOf is what an answer says it is; without that, what it looks like.
func typeOf(res *http.Response, src *bufio.Reader) string {
	stated, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err == nil {
		return stated
	}
	beginning, _ := src.Peek(512) // an error comes again when the rest is read
	looks, _, err := mime.ParseMediaType(http.DetectContentType(beginning))
	if err != nil {
		return ""
	}
	return looks
}

// errNoPicture says that an address gives no image that can be kept.
var errNoPicture = errors.New("no image that can be kept")

// addImage adds the first of some images that can be had, and keeps the preview.
func (f *fetch) addImage(ctx context.Context, graph map[string]any, list []*url.URL) (previewdb.Preview, error) {
	for _, u := range list[:min(len(list), maxTries)] {
		res, err := f.get(ctx, u, "image/*")
		if err != nil {
			f.opt.Log.Debug("no image for a preview", "err", err)
			continue
		}
		row, err := f.keepImage(ctx, graph, res, res.Body)
		err = errors.Join(err, res.Body.Close())
		if !errors.Is(err, errNoPicture) {
			return row, err
		}
	}
	delete(graph, "og:image:alt")
	return f.keep(ctx, f.row(graph, ""))
}

// keepImage keeps a preview with an image. errNoPicture if it is none, or the user has had too many bytes of them.
func (f *fetch) keepImage(ctx context.Context, graph map[string]any, res *http.Response, body io.Reader) (row previewdb.Preview, err error) {
	if res.ContentLength > MaxImage {
		return row, errNoPicture
	}
	src := &imageReader{src: body, charge: func(n int) error { return f.opt.Limits.Take(httpkit.RatePreviewBytes, f.user, n) }}
	err = f.opt.Images.KeepPicture(ctx, src, MaxImage, f.before.MediaID, func(c *store.Change, mediaID string, size int64, p thumbnail.Picture) {
		graph["og:image"] = "mxc://" + f.opt.ServerName + "/" + mediaID
		graph["og:image:type"], graph["og:image:width"], graph["og:image:height"] = p.Type, p.Width, p.Height
		graph["matrix:image:size"] = size
		row = f.row(graph, mediaID)
		f.put(c, row)
	})
	if src.err != nil || errors.Is(err, thumbnail.ErrNoImage) || errors.Is(err, thumbnail.ErrTooLarge) || errors.Is(err, blob.ErrTooLarge) {
		return row, fmt.Errorf("%w: %w", errNoPicture, errors.Join(err, src.err))
	}
	return row, err
}

// imageReader charges what it reads, and remembers the error of the network, so that it can be told from one of the disk.
type imageReader struct {
	src    io.Reader
	charge func(n int) error
	err    error
}

func (r *imageReader) Read(p []byte) (int, error) {
	n, err := r.src.Read(p)
	if over := r.charge(n); over != nil {
		err = over
	}
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// keep keeps a preview without an image.
func (f *fetch) keep(ctx context.Context, row previewdb.Preview) (previewdb.Preview, error) {
	c := store.NewChange()
	f.put(c, row)
	_, err := f.opt.Store.Commit(ctx, c)
	return row, err
}

func (f *fetch) row(graph map[string]any, mediaID string) previewdb.Preview {
	text, err := json.Marshal(graph)
	if err != nil {
		panic(err) // of strings and numbers
	}
	return previewdb.Preview{Key: f.before.Key, Answer: string(text), MediaID: mediaID}
}

// put writes a row. An image that it replaces gets a row of its own, so that it goes a week later.
func (f *fetch) put(c *store.Change, row previewdb.Preview) {
	fresh := freshTime
	if row.Failure != "" {
		fresh = failedTime
	}
	previewdb.Put(c, row, f.before.MediaID, fresh.Milliseconds())
	if old := f.before.MediaID; old != "" && old != row.MediaID {
		key := sha256.Sum256([]byte("image " + old))
		previewdb.Put(c, previewdb.Preview{Key: key[:], MediaID: old}, "", 0)
	}
}

// mainLanguage is the first language of an Accept-Language, such as de; empty if there is none.
func mainLanguage(accept string) string {
	tags, _, err := language.ParseAcceptLanguage(accept[:min(len(accept), maxAccept)])
	if err != nil || len(tags) == 0 {
		return ""
	}
	base, certain := tags[0].Base()
	if certain == language.No {
		return ""
	}
	return base.String()
}
