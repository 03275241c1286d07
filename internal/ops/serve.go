package ops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"stoa/internal/config"
	"stoa/internal/server"
	"stoa/internal/telemetry"
)

func (t *terminal) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the server until Ctrl-C or SIGTERM",
		Long: "Runs the server. It needs no settings: it keeps its data in ./data and serves clients on\n" +
			"http://127.0.0.1:8008. stoa.example.yaml lists all settings.",
		Example: "  stoa serve\n  STOA_SERVER_NAME=example.org stoa serve --config /etc/stoa.yaml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, warnings, err := config.Load(t.config, t.environ)
			if err != nil {
				return fmt.Errorf("the settings are wrong:\n%w", err)
			}
			log, closeLog, err := telemetry.NewLog(cfg)
			if err != nil {
				return err
			}
			for _, w := range warnings {
				log.Warn("setting ignored", "err", w)
			}
			sockets, err := inherit()
			if err != nil {
				return err
			}
			if limit := telemetry.TuneMemory(os.DirFS("/")); limit > 0 {
				log.Info("memory limited by the control group", "bytes", limit)
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			err = t.serve(ctx, stop, cfg, log, sockets)
			return errors.Join(err, closeLog.Close())
		},
	}
}

// serve runs a server until ctx ends, then drains it. It calls stopped when the drain
// begins, so that a second signal ends the process at once.
func (t *terminal) serve(ctx context.Context, stopped func(), cfg *config.Config, log *slog.Logger, sockets server.Sockets) error {
	began := time.Now()
	srv, err := server.New(ctx, server.Options{Config: cfg, Log: log, Version: Version(), Control: controlRoutes})
	if err != nil {
		return err
	}
	if err := srv.Join(ctx); err != nil {
		return errors.Join(err, srv.Stop())
	}
	if err := srv.Listen(sockets); err != nil {
		return errors.Join(err, srv.Stop())
	}
	srv.Start()
	log.Info("server started", "server", cfg.ServerName.String(), "addr", srv.ClientAddr(), "instance", cfg.Instance,
		"version", Version(), "took_ms", time.Since(began).Milliseconds())
	tell(log, tellReady)
	warn(cfg, log)
	if err := t.adviseFirstStart(ctx, cfg, srv.Services()); err != nil {
		log.Warn("look for users", "err", err)
	}

	select {
	case <-ctx.Done():
		log.Info("server stopping", "instance", cfg.Instance)
	case err = <-srv.Failed():
		log.Error("a listener failed; server stopping", "err", err)
	}
	stopped()
	tell(log, tellStopping)
	err = errors.Join(err, srv.Stop())
	log.Info("server stopped", "instance", cfg.Instance)
	return err
}

// warn logs what an operator should change.
func warn(cfg *config.Config, log *slog.Logger) {
	if cfg.AdminListen != "" && !telemetry.IsLoopback(cfg.AdminListen) {
		log.Warn("admin_listen is open to other machines and has no authentication; set it to a loopback address", "addr", cfg.AdminListen)
	}
	if cfg.SecretKey == "" {
		log.Warn("secret_key is not set: the signing key is stored unencrypted; to encrypt it, set STOA_SECRET_KEY to the output of 'openssl rand -base64 32', keep a copy, and restart")
	}
	if cfg.RateLimits != config.LimitsOn {
		log.Warn("rate_limits is not on: passwords can be guessed at full speed; set it to on unless this is a test")
	}
	if cfg.FederationAllowPrivate {
		log.Warn("federation_allow_private is on: outsiders can make this server connect to private addresses; set it to false unless other servers are in a private network")
	}
}

// adviseFirstStart logs what to do next as long as there are no users.
func (t *terminal) adviseFirstStart(ctx context.Context, cfg *config.Config, s *server.Services) error {
	some, err := s.Accounts.Any(ctx)
	if err != nil || some {
		return err
	}
	_, err = fmt.Fprintf(t.err, `
There is no user yet. Create the first one, an administrator, in another terminal:

    %s

It prints a password. Log in with any Matrix client on the homeserver

    %s

`, t.again("user create --admin alice"), cfg.PublicURL)
	return err
}
