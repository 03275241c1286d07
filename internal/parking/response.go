package parking

import (
	"bytes"
	"net/http"
	"strconv"
	"time"
)

// closeConnection is shared and full, so that an append to it makes a copy.
var closeConnection = []string{"close"}

// response is the ResponseWriter of a request on a parked connection.
type response struct {
	conn   *connection
	header http.Header
	status int
	body   []byte // what waits until its length is known
	begun  bool   // the head is written
	parked bool   // the answer comes from a Parked
	isLast bool   // the connection ends with it
	left   int    // bytes of the body after the head that are still to come
	failed error
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

// Write implements http.ResponseWriter. What is written before its length is known is kept until the answer ends.
func (w *response) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	switch {
	case w.failed != nil:
	case w.begun && len(p) > w.left:
		w.failed = http.ErrContentLength
	case w.begun:
		w.left -= len(p)
		w.failed = w.conn.write(w.conn.context, p, nil)
	case w.header["Content-Length"] == nil:
		w.body = append(w.body, p...)
	default:
		w.begin(p)
	}
	if w.failed != nil {
		return 0, w.failed
	}
	return len(p), nil
}

// begin writes the head, and what there is of the body.
func (w *response) begin(body []byte) {
	w.begun = true
	if w.conn.listener.IsWindingDown() {
		w.header["Connection"] = closeConnection
	}
	w.isLast = w.header.Get("Connection") == "close"
	length, err := strconv.Atoi(w.header.Get("Content-Length"))
	if err != nil || length < len(body) {
		w.failed = http.ErrContentLength
		return
	}
	w.left = length - len(body)
	if w.header["Content-Type"] == nil && len(body) > 0 {
		w.header["Content-Type"] = []string{http.DetectContentType(body)}
	}
	var head bytes.Buffer
	head.Grow(512)
	head.WriteString("HTTP/1.1 ")
	head.WriteString(strconv.Itoa(w.status))
	head.WriteByte(' ')
	head.WriteString(http.StatusText(w.status))
	head.WriteString("\r\n")
	if w.header["Date"] == nil {
		head.WriteString("Date: ")
		head.Write(time.Now().UTC().AppendFormat(head.AvailableBuffer(), http.TimeFormat))
		head.WriteString("\r\n")
	}
	_ = w.header.Write(&head) // a buffer takes everything
	head.WriteString("\r\n")
	w.failed = w.conn.write(w.conn.context, head.Bytes(), body)
}

// finish writes the rest of the answer.
func (w *response) finish() error {
	w.WriteHeader(http.StatusOK)
	if !w.begun {
		if w.header["Content-Length"] == nil {
			w.header["Content-Length"] = []string{strconv.Itoa(len(w.body))}
		}
		w.begin(w.body)
	}
	w.isLast = w.isLast || w.left > 0
	return w.failed
}
