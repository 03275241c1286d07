package webui_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"stoa/internal/httpkit"
	"stoa/internal/webui"
	"stoa/matrix/id"
)

func TestLandingPage(t *testing.T) {
	t.Parallel()
	server, err := id.ParseServerName("stoa.test")
	if err != nil {
		t.Fatal(err)
	}
	m, err := httpkit.NewMux(httpkit.Options{}, webui.Routes(webui.Options{ServerName: server, PublicURL: "https://x.test/?<b>"}))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	body := w.Body.String()
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		t.Fatalf("%d %s", w.Code, w.Header())
	}
	for _, word := range []string{"stoa.test is up", "https://x.test/?&lt;b&gt;", "administrators"} {
		if !strings.Contains(body, word) {
			t.Errorf("the page does not say %q", word)
		}
	}
	if strings.Contains(body, "{{") {
		t.Error("a placeholder was left")
	}
}
