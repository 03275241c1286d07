package blob

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// partSize is that of the parts in which large blobs are sent. A part is read from the spool file while it is sent.
const partSize = 16 << 20

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
	// Transport is http.DefaultTransport if nil.
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
	client, err := minio.New(u.Host, &minio.Options{
		Creds: credentials.NewStaticV4(opt.AccessKey, opt.Secret, ""), Secure: u.Scheme == "https", Region: opt.Region,
		Transport: opt.Transport, BucketLookup: minio.BucketLookupPath,
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
		return fmt.Errorf("blob: write to the bucket: %w", err)
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
		return nil, fmt.Errorf("blob: read from the bucket: %w", err)
	}
	if _, err := object.Stat(); err != nil {
		return nil, errors.Join(notFound(err), object.Close())
	}
	return object, nil
}

func notFound(err error) error {
	if code := minio.ToErrorResponse(err).Code; code == minio.NoSuchKey || code == "NotFound" {
		return ErrNotFound
	}
	return fmt.Errorf("blob: read from the bucket: %w", err)
}

// Delete implements [Place].
func (b *Bucket) Delete(ctx context.Context, name string) error {
	key, err := b.key(name)
	if err != nil {
		return err
	}
	err = b.client.RemoveObject(ctx, b.bucket, key, minio.RemoveObjectOptions{})
	if err != nil && !errors.Is(notFound(err), ErrNotFound) {
		return fmt.Errorf("blob: delete from the bucket: %w", err)
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
			return fmt.Errorf("blob: list the bucket: %w", object.Err)
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
