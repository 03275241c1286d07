package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// runFloor serves one of the floors, which tell how fast anything could be:
//
//	bare     net/http, a path with wildcards, JSON in, JSON out
//	durable  the same, and the body is in a file and fdatasync has returned
//	         before the answer; requests that wait share one fdatasync
//	poll     a handler that holds a request for its timeout and answers
func runFloor(kind, addr, dir string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	switch kind {
	case "bare":
		mux.HandleFunc("PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}", func(w http.ResponseWriter, r *http.Request) {
			if _, ok := readMessage(w, r); ok {
				answerSent(w, r)
			}
		})
	case "durable":
		log, err := newSyncedFile(filepath.Join(dir, "floor.log"))
		if err != nil {
			return err
		}
		mux.HandleFunc("PUT /_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}", func(w http.ResponseWriter, r *http.Request) {
			body, ok := readMessage(w, r)
			if !ok {
				return
			}
			if err := log.append(body); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			answerSent(w, r)
		})
	case "poll":
		mux.HandleFunc("GET /_matrix/client/v3/sync", func(w http.ResponseWriter, r *http.Request) {
			timeout, err := time.ParseDuration(r.FormValue("timeout") + "ms")
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			timer := time.NewTimer(timeout)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.Context().Done():
			}
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"next_batch":"0"}`)
		})
	default:
		return fmt.Errorf("no floor %q", kind)
	}
	return http.ListenAndServe(addr, mux)
}

func readMessage(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 65536))
	var content map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(body, &content)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil, false
	}
	return body, true
}

func answerSent(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"event_id": "$" + r.PathValue("roomId") + r.PathValue("txnId")})
}

// syncedFile appends and syncs in groups: who comes while a sync is under way
// waits for the next one, together with all others that came.
type syncedFile struct {
	f    *os.File
	mu   sync.Mutex
	next *syncGroup
	wake chan struct{}
}

type syncGroup struct {
	data []byte
	err  error
	done chan struct{}
}

func newSyncedFile(path string) (*syncedFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	s := &syncedFile{f: f, wake: make(chan struct{}, 1)}
	go s.run()
	return s, nil
}

func (s *syncedFile) append(data []byte) error {
	s.mu.Lock()
	if s.next == nil {
		s.next = &syncGroup{done: make(chan struct{})}
		s.wake <- struct{}{}
	}
	g := s.next
	g.data = append(g.data, data...)
	s.mu.Unlock()
	<-g.done
	return g.err
}

func (s *syncedFile) run() {
	for range s.wake {
		s.mu.Lock()
		g := s.next
		s.next = nil
		s.mu.Unlock()
		_, err := s.f.Write(g.data)
		g.err = errors.Join(err, syscall.Fdatasync(int(s.f.Fd())))
		close(g.done)
	}
}
