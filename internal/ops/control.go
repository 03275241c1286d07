package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"

	"stoa/internal/config"
	"stoa/internal/httpkit"
	"stoa/internal/server"
	"stoa/matrix/mxerr"
)

// action is what a command does. The running server does it if there is one, otherwise
// this process. In and Out are sent as JSON.
type action[In, Out any] struct {
	path string
	do   func(ctx context.Context, s *server.Services, in In) (Out, error)
}

// controlRoutes returns the routes of the socket in the data directory.
func controlRoutes(s *server.Services) []httpkit.Route {
	return []httpkit.Route{
		userCreate.route(s),
		userList.route(s),
		userPassword.route(s),
		userAdmin.route(s),
		userDeactivate.route(s),
		tokenCreate.route(s),
		tokenList.route(s),
		tokenRevoke.route(s),
		doctorStore.route(s),
		doctorEvent.route(s),
		clusterStatus.route(s),
		jobsList.route(s),
		jobsRetry.route(s),
		jobsDiscard.route(s),
		mailTest.route(s),
		mailBounces.route(s),
		doctorMail.route(s),
		doctorPush.route(s),
		searchRebuild.route(s),
		searchProgress.route(s),
		mediaQuarantine.route(s),
		mediaList.route(s),
		reportList.route(s),
		reportShow.route(s),
		reportHandle.route(s),
		noticeSend.route(s),
	}
}

func (a action[In, Out]) route(s *server.Services) httpkit.Route {
	return httpkit.Route{Method: http.MethodPost, Pattern: a.path, Handler: httpkit.Adapt(func(r *http.Request) (Out, error) {
		var in In
		if err := httpkit.ReadJSON(r, &in); err != nil {
			var none Out
			return none, err
		}
		return a.do(r.Context(), s, in)
	})}
}

// ask runs the action.
func (a action[In, Out]) ask(ctx context.Context, cfg *config.Config, in In) (out Out, err error) {
	done, err := a.askServer(ctx, cfg, in, &out)
	if done || err != nil {
		return out, err
	}
	if err := isThere(cfg); err != nil {
		return out, err
	}
	s, err := server.OpenServices(ctx, server.Options{Config: cfg, Version: Version()})
	if err != nil {
		return out, err
	}
	out, err = a.do(ctx, s, in)
	return out, errors.Join(err, s.Close())
}

// isThere returns an error instead of creating a new database for a command that was
// typed in the wrong directory.
func isThere(cfg *config.Config) error {
	if !cfg.DatabaseIsFile() {
		return nil
	}
	if _, err := os.Stat(cfg.Database); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no database %s\nRun this command in the directory where the server was started, or set STOA_DATA_DIR to its data directory; 'stoa serve' creates a new database", cfg.Database)
	}
	return nil
}

// askServer sends the action to the running server; done is false if there is none.
func (a action[In, Out]) askServer(ctx context.Context, cfg *config.Config, in In, out *Out) (done bool, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://stoa"+a.path, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	socket := cfg.ControlSocket()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	res, err := client.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return false, nil // no server, or the socket of a killed one
	case errors.Is(err, fs.ErrPermission):
		return false, fmt.Errorf("%w\nRun this command as the user of the server", err)
	case errors.Is(err, syscall.EINVAL):
		return false, nil // the path is too long for a socket, so the server has none either
	case err != nil:
		return false, fmt.Errorf("ask the running server: %w", err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return true, fmt.Errorf("read the running server's answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		var refusal struct {
			Errcode string `json:"errcode"`
			Error   string `json:"error"`
		}
		if err := json.Unmarshal(answer, &refusal); err != nil || refusal.Errcode == "" {
			return true, fmt.Errorf("the running server answered %s; does it have the same version as this program?", res.Status)
		}
		return true, mxerr.New(res.StatusCode, refusal.Errcode, "%s", refusal.Error)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return true, fmt.Errorf("read the running server's answer: %w", err)
	}
	return true, nil
}
