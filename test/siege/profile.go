package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// profile writes a CPU and a heap profile of the server, after a time. They explain a bad result and decide nothing.
func profile(ctx context.Context, admin, dir string, after time.Duration) {
	if !pause(ctx, after) {
		return
	}
	fetch(ctx, admin, dir, map[string]string{"cpu.pprof": "profile?seconds=10", "heap.pprof": "heap", "goroutines.txt": "goroutine?debug=1"})
}

// profileAfter writes what the memory is used for once the attack is over.
func profileAfter(ctx context.Context, admin, dir string) {
	fetch(ctx, admin, dir, map[string]string{"heap-after.pprof": "heap", "goroutines-after.txt": "goroutine?debug=1", "memory-after.txt": "heap?debug=1"})
	fetch(ctx, admin, dir, map[string]string{"heap-live.pprof": "heap?gc=1"}) // without garbage
}

func fetch(ctx context.Context, admin, dir string, profiles map[string]string) {
	for name, path := range profiles {
		req, err := http.NewRequestWithContext(ctx, "GET", "http://"+admin+"/debug/pprof/"+path, nil)
		if err == nil {
			err = save(req, filepath.Join(dir, name))
		}
		if err != nil {
			say("no profile: %v", err)
		}
	}
}

func save(req *http.Request, file string) error {
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
