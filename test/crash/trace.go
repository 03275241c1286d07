package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"stoa/test/kit"
)

// tracedSends is how many messages are sent, one after another, under strace.
const tracedSends = 25

// checkTrace shows that answers follow the fdatasync of their commit, and that
// this check finds a build in which they don't.
func checkTrace(binary string) error {
	if _, err := exec.LookPath("strace"); err != nil {
		return errors.New("strace is needed (Debian package strace)")
	}
	if err := traceBuild(binary); err != nil {
		return err
	}
	fmt.Printf("crash: trace: each of %d answers followed the fdatasync behind its commit\n", tracedSends)
	dir, err := os.MkdirTemp("", "stoa-crash-unsafe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	unsafe, err := buildUnsafe(dir)
	if err != nil {
		return fmt.Errorf("build with synchronous=OFF: %w", err)
	}
	if err := traceBuild(unsafe); !errors.Is(err, errTooEarly) {
		return fmt.Errorf("the check does not see that a build with synchronous=OFF answers too early: %v", err)
	}
	fmt.Println("crash: trace: a build with synchronous=OFF fails the same check, as it must")
	return nil
}

// buildUnsafe builds the server with an overlay in which SQLite does not wait
// for the disk.
func buildUnsafe(dir string) (string, error) {
	const file = "internal/store/sqlite.go"
	return kit.BuildChanged(dir, "stoa",
		kit.Edit{File: file, Old: "synchronous = FULL", New: "synchronous = OFF"},
		kit.Edit{File: file, Old: `synchronous("FULL")`, New: `synchronous("OFF")`})
}

var errTooEarly = errors.New("answered before the commit was on the disk")

// traceBuild sends messages to a server under strace, one at a time, and reads
// what it did between a request and its answer.
func traceBuild(binary string) error {
	dir, err := os.MkdirTemp("", "stoa-crash-trace-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	srv, err := newServer(binary, dir)
	if err != nil {
		return err
	}
	trace := filepath.Join(dir, "trace")
	srv.Wrap = []string{"strace", "-f", "-y", "-s", "200", "-e", "trace=read,write,pwrite64,fsync,fdatasync", "-o", trace}
	if err := srv.Start(); err != nil {
		return err
	}
	defer srv.Kill()
	t, err := settle(srv)
	if err != nil {
		return err
	}
	for i := range tracedSends {
		m := &message{room: t.people[0].room, body: fmt.Sprintf("traced %d", i), txn: fmt.Sprintf("traced-%d", i)}
		if err := t.put(m); err != nil {
			return err
		}
	}
	srv.Signal(syscall.SIGTERM) // lets strace write its file to the end
	select {
	case <-srv.Gone():
	case <-time.After(kit.StartWithin):
		return fmt.Errorf("the server did not end within %v", kit.StartWithin)
	}
	return readTrace(trace)
}

// The lines of the trace. net/http may read the first byte of a request alone.
var (
	requestIn = regexp.MustCompile(`^\d+ +(?:read\(|<\.\.\. read resumed>).*"P?UT /_matrix/client/v3/rooms/\S+/send/m\.room\.message/(traced-\d+)`)
	answerOut = regexp.MustCompile(`^\d+ +write\(\d+<(?:TCP|socket).*"HTTP/1\.1 200 `)
	logWrite  = regexp.MustCompile(`^\d+ +pwrite64\(\d+<[^>]*-wal>`)
	logSynced = regexp.MustCompile(`^\d+ +(?:fdatasync|fsync)\(\d+<[^>]*-wal>.*= 0$`)
	syncBegun = regexp.MustCompile(`^(\d+) +(?:fdatasync|fsync)\(\d+<[^>]*-wal> <unfinished`)
	syncEnded = regexp.MustCompile(`^(\d+) +<\.\.\. (?:fdatasync|fsync) resumed>.*= 0$`)
)

// readTrace follows one request after another: it is read, the log of the
// database is written, the write is on the disk, the answer is written.
func readTrace(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	var request string // the one being served
	written, synced := false, false
	syncing := map[string]bool{} // processes in an fdatasync of the log that began after the write
	answered := 0
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch m := requestIn.FindStringSubmatch(line); {
		case m != nil:
			request, written, synced = m[1], false, false
			clear(syncing)
		case request == "":
		case logWrite.MatchString(line):
			written, synced = true, false
			clear(syncing) // what began before does not cover this write
		case logSynced.MatchString(line):
			synced = written
		case syncBegun.MatchString(line):
			syncing[syncBegun.FindStringSubmatch(line)[1]] = written
		case syncEnded.MatchString(line):
			if pid := syncEnded.FindStringSubmatch(line)[1]; syncing[pid] {
				synced = true
				delete(syncing, pid)
			}
		case answerOut.MatchString(line):
			if !written {
				return fmt.Errorf("%s: %w: nothing was written before the answer", request, errTooEarly)
			}
			if !synced {
				return fmt.Errorf("%s: %w", request, errTooEarly)
			}
			answered++
			request = ""
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if answered != tracedSends {
		return fmt.Errorf("%d of %d answers found in the trace", answered, tracedSends)
	}
	return nil
}
