package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stoa/internal/config"
)

func settings(t *testing.T, environ ...string) *config.Config {
	t.Helper()
	cfg, _, err := config.Load("", environ)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestNewLog(t *testing.T) {
	t.Parallel()

	t.Run("writes_json_to_a_file_from_the_level_on", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "logs", "stoa.log")
		log, closer, err := NewLog(settings(t, "STOA_LOG_FILE="+file, "STOA_LOG_FORMAT=json", "STOA_LOG_LEVEL=warn"))
		if err != nil {
			t.Fatal(err)
		}
		log.Info("quiet")
		log.Warn("slow", "took_ms", 7)
		if err := closer.Close(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var line struct {
			Msg    string `json:"msg"`
			TookMS int    `json:"took_ms"`
		}
		if err := json.Unmarshal(text, &line); err != nil || line.Msg != "slow" || line.TookMS != 7 {
			t.Errorf("%s: %v", text, err)
		}
	})
	t.Run("keeps_a_file_within_its_size", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "stoa.log")
		log, closer, err := NewLog(settings(t, "STOA_LOG_FILE="+file, "STOA_LOG_MAX_SIZE=1MiB"))
		if err != nil {
			t.Fatal(err)
		}
		long := strings.Repeat("x", 100_000)
		for range 25 {
			log.Info("x", "long", long)
		}
		if err := closer.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil || info.Size() > 1<<20 {
			t.Errorf("size %d, %v", info.Size(), err)
		}
	})
	t.Run("refuses_a_file_that_can_not_be_written", func(t *testing.T) {
		t.Parallel()
		if _, _, err := NewLog(settings(t, "STOA_LOG_FILE="+t.TempDir())); err == nil {
			t.Error("accepted a folder")
		}
	})
}

func TestAdminHandler(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is full")
	var health Health
	health.Add("fine", func(context.Context) error { return nil })
	h := AdminHandler(NewRegistry(), &health)
	get := func(path string) (int, *bytes.Buffer) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body
	}
	if code, body := get("/health"); code != 200 || !strings.Contains(body.String(), `"healthy":true`) {
		t.Errorf("healthy: %d %s", code, body)
	}
	health.Add("store", func(context.Context) error { return broken })
	if code, body := get("/health"); code != 503 || !strings.Contains(body.String(), `"store":"the disk is full"`) {
		t.Errorf("unhealthy: %d %s", code, body)
	}
	if code, body := get("/metrics"); code != 200 || !strings.Contains(body.String(), "go_goroutines") {
		t.Errorf("metrics: %d %.100s", code, body)
	}
	if code, body := get("/debug/pprof/goroutine?debug=1"); code != 200 || !strings.Contains(body.String(), "goroutine") {
		t.Errorf("profile: %d %.100s", code, body)
	}
	if code, _ := get("/elsewhere"); code != 404 {
		t.Errorf("elsewhere: %d", code)
	}
}

func TestIsLoopback(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"127.0.0.1:9": true, "127.8.8.8:9": true, "[::1]:9": true, "localhost:9": true, "unix:/x": true,
		":9": false, "0.0.0.0:9": false, "[::]:9": false, "192.0.2.1:9": false, "example.org:9": false,
	} {
		if IsLoopback(address) != want {
			t.Errorf("IsLoopback(%q) is not %v", address, want)
		}
	}
}
