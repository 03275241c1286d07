package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// partSize is that of the parts in which large blobs are sent. A part is read from the spool file while it is sent.
const partSize = 16 << 20

const (
	// tries is how often a request is sent that fails. Clients try again too.
	tries = 3
	// dialTime bounds the time until a connection stands.
	dialTime = 5 * time.Second
	// silence is how long a connection may carry nothing in either direction before it is given up.
	silence = time.Minute
	// checkTime bounds Check.
	checkTime = 5 * time.Second
)

// Bucket keeps blobs as objects of an S3-compatible bucket.
type Bucket struct {
	client *minio.Client
	bucket string
	prefix string
}

// BucketOptions say where a bucket is.
type BucketOptions struct {
	// URL is https://HOST/BUCKET or https://HOST/BUCKET/PREFIX; http for a test server.
	URL string
	// Region may be empty.
	Region            string
	AccessKey, Secret string
	// Transport is one that gives up a silent server, if nil.
	Transport http.RoundTripper
}

// NewBucket makes a Bucket. Nothing is sent.
func NewBucket(opt BucketOptions) (*Bucket, error) {
	u, err := url.Parse(opt.URL)
	if err != nil {
		return nil, fmt.Errorf("address of the bucket: %w", err)
	}
	bucket, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || bucket == "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("address of the bucket %q: want https://HOST/BUCKET or https://HOST/BUCKET/PREFIX", opt.URL)
	}
	if opt.Transport == nil {
		if opt.Transport, err = newTransport(u.Scheme == "https"); err != nil {
			return nil, fmt.Errorf("address of the bucket: %w", err)
		}
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds: credentials.NewStaticV4(opt.AccessKey, opt.Secret, ""), Secure: u.Scheme == "https", Region: opt.Region,
		Transport: opt.Transport, BucketLookup: minio.BucketLookupPath, MaxRetries: tries,
	})
	if err != nil {
		return nil, fmt.Errorf("address of the bucket: %w", err)
	}
	return &Bucket{client: client, bucket: bucket, prefix: prefix}, nil
}

func (b *Bucket) key(name string) (string, error) {
	if !isName(name) {
		return "", fmt.Errorf("blob: %q is no name of a blob", name)
	}
	return path.Join(b.prefix, name), nil
}

// Put implements [Place].
func (b *Bucket) Put(ctx context.Context, name string, s *Spool) error {
	key, err := b.key(name)
	if err != nil {
		return err
	}
	// Parts are signed one by one, which servers don't take of an empty object.
	_, err = b.client.PutObject(ctx, b.bucket, key, s.file, s.Size, minio.PutObjectOptions{
		ContentType: "application/octet-stream", PartSize: partSize, NumThreads: 1, DisableContentSha256: s.Size == 0,
	})
	if err != nil {
		return bucketError("write to the bucket", err)
	}
	return s.Close()
}

// Open implements [Place].
func (b *Bucket) Open(ctx context.Context, name string) (Content, error) {
	key, err := b.key(name)
	if err != nil {
		return nil, err
	}
	object, err := b.client.GetObject(ctx, b.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, bucketError("read from the bucket", err)
	}
	if _, err := object.Stat(); err != nil {
		return nil, errors.Join(bucketError("read from the bucket", err), object.Close())
	}
	return objectContent{object}, nil
}

// objectContent gives the errors of an object as those of this package.
type objectContent struct{ *minio.Object }

func (o objectContent) Read(p []byte) (int, error) {
	n, err := o.Object.Read(p)
	if err != nil && err != io.EOF {
		err = bucketError("read from the bucket", err)
	}
	return n, err
}

// bucketError sorts what went wrong: ErrNotFound, ErrFull, ErrUnreachable (also for what the server says of itself), the
// end of ctx, or a fault such as a wrong key.
func bucketError(action string, err error) error {
	said := minio.ToErrorResponse(err)
	var kind error
	switch {
	case said.Code == minio.NoSuchKey || said.Code == "NotFound":
		return ErrNotFound
	case errors.Is(err, context.Canceled), errors.As(err, new(*fs.PathError)): // the caller's end, the spool file
	case said.StatusCode == http.StatusInsufficientStorage || said.Code == "XMinioStorageFull" || said.Code == "QuotaExceeded":
		kind = ErrFull
	case said.Code == "SlowDown" || said.StatusCode >= 500 || said.StatusCode == 0:
		kind = ErrUnreachable
	}
	if kind != nil {
		return fmt.Errorf("blob: %s: %w: %w", action, kind, err)
	}
	return fmt.Errorf("blob: %s: %w", action, err)
}

// Check implements [Place] by asking for the bucket. A refusal is an answer too: the key may have no right to ask.
func (b *Bucket) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	is, err := b.client.BucketExists(ctx, b.bucket)
	if err != nil {
		if err = bucketError("ask for the bucket", err); errors.Is(err, ErrUnreachable) || errors.Is(err, ErrFull) {
			return err
		}
		return nil
	}
	if !is {
		return fmt.Errorf("blob: there is no bucket %q", b.bucket)
	}
	return nil
}

// newTransport is minio's with connections that end when nothing comes for some time.
func newTransport(secure bool) (http.RoundTripper, error) {
	t, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: dialTime}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return liveConn{c}, nil
	}
	return t, nil
}

// liveConn ends when it is silent for too long. A write prolongs the wait for an answer, as large parts take their time.
type liveConn struct{ net.Conn }

func (c liveConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c liveConn) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Delete implements [Place].
func (b *Bucket) Delete(ctx context.Context, name string) error {
	key, err := b.key(name)
	if err != nil {
		return err
	}
	err = b.client.RemoveObject(ctx, b.bucket, key, minio.RemoveObjectOptions{})
	if err != nil {
		if err = bucketError("delete from the bucket", err); !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// List implements [Place].
func (b *Bucket) List(ctx context.Context, each func(Entry) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // also ends the goroutine that lists
	prefix := b.prefix
	if prefix != "" {
		prefix += "/"
	}
	for object := range b.client.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if object.Err != nil {
			return bucketError("list the bucket", object.Err)
		}
		name := path.Base(object.Key)
		if !isName(name) {
			continue
		}
		if err := each(Entry{Name: name, Size: object.Size, Written: object.LastModified}); err != nil {
			return err
		}
	}
	return nil
}
