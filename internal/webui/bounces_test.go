package webui_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"stoa/internal/server/servertest"
	"stoa/internal/store"
	"stoa/internal/store/maildb"
)

func TestBouncesAreReported(t *testing.T) {
	t.Parallel()
	const secret = "0123456789abcdef"
	servertest.Each(t, func(t *testing.T, s *servertest.Server) {
		post := func(token, body string) int {
			r := httptest.NewRequest("POST", "/_stoa/mail/bounces", strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			s.Handler.ServeHTTP(w, r)
			return w.Code
		}
		for _, c := range []struct {
			token, body string
			want        int
		}{
			{"", `{"addresses":["a@b.test"]}`, 403},
			{"0123456789abcdeg", `{"addresses":["a@b.test"]}`, 403},
			{secret, `{"addresses":[]}`, 400},
			{secret, `{"addresses":["nobody"]}`, 400},
			{secret, `{"addresses":["a@b.test",` + strings.Repeat(`"c@d.test",`, 1000) + `"e@f.test"]}`, 400},
			{secret, `{"addresses":["A@b.test","c@d.test"],"reason":"user unknown"}`, 200},
			{secret, `{"addresses":["a@b.test"],"reason":"` + strings.Repeat("x", 10_000) + `"}`, 200},
		} {
			if got := post(c.token, c.body); got != c.want {
				t.Errorf("%.60s: %d, want %d", c.body, got, c.want)
			}
		}
		var list []maildb.Bounce
		err := s.Store.Read(t.Context(), func(r *store.Read) (err error) {
			list, err = maildb.Bounces(r, 10)
			return err
		})
		if err != nil || len(list) != 2 || list[0].Bounces+list[1].Bounces != 3 || len(list[0].Reason) > 500 || len(list[1].Reason) > 500 {
			t.Errorf("%+v, %v", list, err)
		}
	}, "STOA_MAIL_BOUNCE_SECRET="+secret)
}

func TestBouncesAreOffWithoutASecret(t *testing.T) {
	t.Parallel()
	s := servertest.SQLite(t)
	r := httptest.NewRequest("POST", "/_stoa/mail/bounces", strings.NewReader(`{"addresses":["a@b.test"]}`))
	r.Header.Set("Authorization", "Bearer ")
	w := httptest.NewRecorder()
	if s.Handler.ServeHTTP(w, r); w.Code != 403 {
		t.Errorf("got %d", w.Code)
	}
}
