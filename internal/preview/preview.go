// Package preview tells what a link leads to: title, description and image, as the page states them for this purpose.
//
// It owns the rules what is fetched and for whom, the reading of pages, and the table of package previewdb, a cache that all
// instances share. It never dials by itself (package outbound decides which addresses may be reached) and never keeps an
// image by itself (Images does).
//
// The invariant that matters: a user learns nothing from a preview but what the public page says. Whether a name exists, has
// a private address, refuses connections or is slow is one and the same answer.
//
// Spec: client-server-api#get_matrixclientv1mediapreview_url
package preview

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"stoa/internal/httpkit"
	"stoa/internal/outbound"
	"stoa/internal/store"
	"stoa/internal/store/previewdb"
	"stoa/internal/thumbnail"
	"stoa/internal/who"
	"stoa/matrix/mxerr"
)

// Bounds of a preview.
const (
	maxLink      = 4096    // bytes of a link
	maxHTML      = 2 << 20 // bytes of a page that are read
	MaxImage     = 8 << 20 // bytes of an image that is kept
	maxHops      = 5       // redirects
	maxTries     = 2       // images that are tried
	maxAccept    = 200     // bytes of an Accept-Language that are read
	fetchTime    = 15 * time.Second
	freshTime    = time.Hour        // of a preview
	failedTime   = 10 * time.Minute // of a failure
	keepTime     = 7 * 24 * time.Hour
	atOnce       = 16 // pages being fetched by this instance
	atOnceOfUser = 4
	queueTime    = 10 * time.Second // in which a fetch must begin
	expirePage   = 500
)

// Images keeps the images of previews.
type Images interface {
	// KeepPicture keeps an image of at most limit bytes in the change that write fills. If the media ID before has the same
	// content, it is given again. Errors: thumbnail.ErrNoImage and ErrTooLarge, blob.ErrTooLarge, those of src and of the
	// change.
	KeepPicture(ctx context.Context, src io.Reader, limit int64, before string, write func(c *store.Change, mediaID string, size int64, p thumbnail.Picture)) error
	// DropPicture deletes an image, if it is there, in the change that write fills.
	DropPicture(ctx context.Context, mediaID string, write func(c *store.Change)) error
}

// Limits bounds what users do.
type Limits interface {
	Take(rate httpkit.Rate, user string, n int) error
}

// Options are what Previews need.
type Options struct {
	Store  *store.Store
	Images Images
	Limits Limits
	// Outbound says how links are fetched. Check, Timeout, MaxRedirects, MaxBody and UserAgent are set here.
	Outbound outbound.Options
	// ServerName is in the mxc: addresses of images.
	ServerName string
	// Allow and Block are hosts, with all below them. An empty Allow is every host.
	Allow, Block []string
	Log          *slog.Logger
}

// Previews makes previews. All its methods may be called at the same time.
type Previews struct {
	opt   Options
	web   *outbound.Client
	slots *semaphore.Weighted

	cached, made, failed, refused atomic.Uint64

	mu      sync.Mutex               // guards what follows; nothing is locked after it
	fetches map[string]chan struct{} // of this instance, by key; closed at the end
	ofUser  map[string]int           // fetches, by user
}

// New makes Previews.
func New(opt Options) *Previews {
	p := &Previews{opt: opt, slots: semaphore.NewWeighted(atOnce), fetches: map[string]chan struct{}{}, ofUser: map[string]int{}}
	if p.opt.Log == nil {
		p.opt.Log = slog.New(slog.DiscardHandler)
	}
	o := opt.Outbound
	o.Check, o.Timeout, o.MaxRedirects, o.MaxBody, o.UserAgent = p.check, fetchTime, maxHops, MaxImage, "Mozilla/5.0 (compatible; Stoa; bot for link previews)"
	p.web = outbound.New(o)
	return p
}

var errBlocked = errors.New("the host is blocked, or not allowed")

// check applies the lists of the settings.
func (p *Previews) check(u *url.URL) error {
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if isUnder(host, p.opt.Block) || len(p.opt.Allow) > 0 && !isUnder(host, p.opt.Allow) {
		return errBlocked
	}
	return nil
}

func isUnder(host string, list []string) bool {
	for _, name := range list {
		if host == name || strings.HasSuffix(host, "."+name) {
			return true
		}
	}
	return false
}

// Preview gives the preview of a link as a JSON object, which is empty if the link says nothing of itself. acceptLanguage
// is the header of that name. Errors: M_INVALID_PARAM for what is no link, M_FORBIDDEN by the lists, M_NOT_FOUND if nothing
// can be fetched, M_LIMIT_EXCEEDED.
//
// Spec: client-server-api#get_matrixclientv1mediapreview_url
func (p *Previews) Preview(ctx context.Context, user who.User, link, acceptLanguage string) (json.RawMessage, error) {
	u, err := p.parse(link)
	if err != nil {
		p.refused.Add(1)
		return nil, err
	}
	lang := mainLanguage(acceptLanguage)
	hash := sha256.Sum256([]byte(lang + " " + u.String()))
	for {
		row, err := p.row(ctx, hash[:])
		if err != nil {
			return nil, err
		}
		if row.Fresh {
			p.cached.Add(1)
			return answer(row)
		}
		done, first := p.enter(string(hash[:]))
		if !first {
			select {
			case <-done: // look again; if it was cancelled, this request is the next to try
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		row, err = p.make(ctx, user, u, lang, row)
		p.leave(string(hash[:]), done)
		if errors.Is(err, previewdb.ErrReplaced) { // another instance was first
			continue
		}
		if err != nil {
			return nil, err
		}
		return answer(row)
	}
}

func answer(row previewdb.Preview) (json.RawMessage, error) {
	if row.Failure != "" {
		return nil, mxerr.NotFound("%s", row.Failure)
	}
	return json.RawMessage(row.Answer), nil
}

// parse checks a link before anything is fetched.
func (p *Previews) parse(link string) (*url.URL, error) {
	if len(link) > maxLink {
		return nil, mxerr.InvalidParam("url has more than %d bytes", maxLink)
	}
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, mxerr.InvalidParam("url must be a link that begins with http:// or https://, without a user name")
	}
	if p.check(u) != nil {
		return nil, mxerr.Forbidden("This server makes no previews of links to that site")
	}
	u.Fragment, u.RawFragment = "", ""
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

// row is what is known of a link. One that was never asked for has only the key.
func (p *Previews) row(ctx context.Context, key []byte) (row previewdb.Preview, err error) {
	err = p.opt.Store.Read(ctx, func(r *store.Read) (err error) { row, err = previewdb.ByKey(r, key); return err })
	if errors.Is(err, store.ErrNotFound) {
		return previewdb.Preview{Key: key}, nil
	}
	return row, err
}

// enter begins the fetch of a key, or gives the channel that is closed when the one under way has ended.
func (p *Previews) enter(key string) (done chan struct{}, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done = p.fetches[key]; done != nil {
		return done, false
	}
	done = make(chan struct{})
	p.fetches[key] = done
	return done, true
}

func (p *Previews) leave(key string, done chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.fetches, key)
	close(done)
}

// admit waits until a user may fetch.
func (p *Previews) admit(ctx context.Context, user string) (release func(), err error) {
	p.mu.Lock()
	if p.ofUser[user] >= atOnceOfUser {
		p.mu.Unlock()
		return nil, mxerr.LimitExceeded(time.Second)
	}
	p.ofUser[user]++
	p.mu.Unlock()
	end := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.ofUser[user]--; p.ofUser[user] == 0 {
			delete(p.ofUser, user)
		}
	}
	wait, cancel := context.WithTimeout(ctx, queueTime)
	defer cancel()
	if err := p.slots.Acquire(wait, 1); err != nil {
		end()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, mxerr.LimitExceeded(queueTime)
	}
	return func() { p.slots.Release(1); end() }, nil
}

// make fetches a link and keeps what it found, also that there is nothing.
func (p *Previews) make(ctx context.Context, user who.User, u *url.URL, lang string, before previewdb.Preview) (previewdb.Preview, error) {
	name := user.UserID.String()
	err := p.opt.Limits.Take(httpkit.RatePreview, name, 1)
	if err != nil {
		p.refused.Add(1)
		return before, err
	}
	release, err := p.admit(ctx, name)
	if err != nil {
		p.refused.Add(1)
		return before, err
	}
	defer release()
	f := &fetch{Previews: p, user: name, lang: lang, before: before}
	row, err := f.run(ctx, u)
	if reason := (failure{}); errors.As(err, &reason) && ctx.Err() == nil {
		p.failed.Add(1)
		p.opt.Log.Debug("no preview", "err", reason.cause)
		return f.keep(ctx, previewdb.Preview{Key: before.Key, Failure: reason.text, MediaID: before.MediaID})
	}
	if err == nil {
		p.made.Add(1)
	}
	return row, err
}

// Expire deletes previews that were made more than a week ago, and their images.
func (p *Previews) Expire(ctx context.Context) error {
	for {
		var old []previewdb.Preview
		err := p.opt.Store.Read(ctx, func(r *store.Read) (err error) {
			old, err = previewdb.Old(r, keepTime.Milliseconds(), expirePage)
			return err
		})
		if err != nil || len(old) == 0 {
			return err
		}
		for _, row := range old {
			drop := func(c *store.Change) {
				c.LowPriority = true
				previewdb.Drop(c, row, keepTime.Milliseconds())
			}
			if row.MediaID != "" {
				err = p.opt.Images.DropPicture(ctx, row.MediaID, drop)
			} else {
				c := store.NewChange()
				drop(c)
				_, err = p.opt.Store.Commit(ctx, c)
			}
			if err != nil && !errors.Is(err, previewdb.ErrReplaced) && !errors.Is(err, store.ErrNotFound) { // made anew or deleted meanwhile
				return fmt.Errorf("expire previews: %w", err)
			}
		}
	}
}
