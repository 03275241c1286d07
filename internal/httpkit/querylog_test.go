package httpkit

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestABadEscapeLogsNoToken logs at level debug.
func TestABadEscapeLogsNoToken(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"access_token=syt_secret%zz", "access_token%zz=syt_secret", "a=1&access_token=syt_secret%ff", "%zz&access_token=syt_secret"} {
		var log bytes.Buffer
		handler := Adapt(func(r *http.Request) (any, error) {
			_, err := ParseQuery(r)
			return struct{}{}, err
		})
		mux, err := NewMux(Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))},
			[]Route{{Method: http.MethodGet, Pattern: "/x", Handler: handler}})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/x?"+query, nil))
		if log.Len() == 0 || strings.Contains(log.String()+w.Body.String(), "secret") {
			t.Errorf("%s: %d %s\n%s", query, w.Code, w.Body, log.String())
		}
	}
}
