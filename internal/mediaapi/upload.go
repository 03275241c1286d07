package mediaapi

import (
	"errors"
	"io"
	"net/http"

	"stoa/internal/httpkit"
	"stoa/internal/media"
	"stoa/internal/who"
	"stoa/matrix/mxerr"
)

// readUpload gives the upload of a request, whose body has not been read.
func (a *API) readUpload(r *http.Request) (who.Caller, media.Upload, error) {
	caller, err := a.opt.Auth.Caller(r)
	if err != nil {
		return who.Caller{}, media.Upload{}, err
	}
	if err := caller.MayAct(); err != nil {
		return who.Caller{}, media.Upload{}, err
	}
	q, err := httpkit.ParseQuery(r)
	if err != nil {
		return who.Caller{}, media.Upload{}, err
	}
	return caller, media.Upload{
		Body: &bodyReader{Reader: r.Body}, Size: r.ContentLength, Type: r.Header.Get("Content-Type"), Name: q.Get("filename"),
	}, nil
}

// bodyReader marks the errors of a body, so that they can be told from those of the disk, and remembers the first.
type bodyReader struct {
	io.Reader
	err error
}

type bodyError struct{ error }

func (e bodyError) Unwrap() error { return e.error }

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = bodyError{err}
		b.err = err
	}
	return n, err
}

// uploadError answers a body that did not arrive. Nothing of it was kept.
func uploadError(err error) error {
	if broken := (bodyError{}); errors.As(err, &broken) {
		return mxerr.Unknown("The body did not arrive as a whole").WithStatus(http.StatusRequestTimeout).Because(err)
	}
	return err
}
