package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"

	"stoa/internal/httpkit"
	"stoa/internal/telemetry"
)

// The names of the listeners that may be passed to this process: those of the settings
// without _listen.
const (
	SocketClient     = "client"
	SocketFederation = "federation"
	SocketAdmin      = "admin"
)

// Sockets are listeners that were opened before this process started, by name. The
// process that passed them keeps them open, so a restart refuses no connection.
type Sockets map[string]net.Listener

// Listen opens all listeners, so that a server that reports its start is reachable at all
// of them. A passed listener replaces the address in the settings.
func (srv *Server) Listen(sockets Sockets) error {
	cfg := srv.opt.Config
	if err := srv.open(sockets[SocketClient], cfg.ClientListen, srv.client, nil); err != nil {
		return fmt.Errorf("client_listen: %w", err)
	}
	if sockets[SocketFederation] != nil && cfg.TLSCert == "" {
		return errors.New("a socket for federation was opened for this server, and it needs tls_cert and tls_key")
	}
	if cfg.FederationListen != "" || sockets[SocketFederation] != nil {
		pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
		if err != nil {
			return fmt.Errorf("load tls_cert and tls_key: %w", err)
		}
		t := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		if err := srv.open(sockets[SocketFederation], cfg.FederationListen, srv.federation, t); err != nil {
			return fmt.Errorf("federation_listen: %w", err)
		}
	}
	if cfg.AdminListen != "" || sockets[SocketAdmin] != nil {
		admin := http.NewServeMux()
		admin.Handle("/", telemetry.AdminHandler(srv.registry, srv.health))
		admin.Handle("GET /cluster", srv.clusterPage())
		if err := srv.open(sockets[SocketAdmin], cfg.AdminListen, named(cfg.Instance, admin), nil); err != nil {
			return fmt.Errorf("admin_listen: %w", err)
		}
	}
	if srv.control == nil {
		return nil
	}
	l, err := listenControl(cfg.ControlSocket(), srv.opt.Log)
	if err != nil {
		// The path may be too long for a socket, or a second instance may use the same
		// directory. The server works; only commands don't reach it.
		srv.opt.Log.Warn("commands can't reach this server", "err", err)
		return nil
	}
	srv.servers = append(srv.servers, httpkit.NewServer(l, srv.control, httpkit.ServerOptions{Log: srv.opt.Log, Workers: srv.workers}))
	return nil
}

// named adds the name of the instance to all answers, as a Mux does.
func named(instance string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Stoa-Instance", instance)
		h.ServeHTTP(w, r)
	})
}

func (srv *Server) open(l net.Listener, address string, h http.Handler, t *tls.Config) error {
	if l == nil {
		var err error
		if l, err = httpkit.Listen(address); err != nil {
			return err
		}
	}
	srv.servers = append(srv.servers, httpkit.NewServer(l, h, httpkit.ServerOptions{
		Log: srv.opt.Log, Workers: srv.workers, TLS: t, HeaderLimits: srv.headerLimits,
	}))
	return nil
}

// ClientAddr is the address of the client listener, with the actual port if the setting
// has port 0.
func (srv *Server) ClientAddr() string {
	a := srv.servers[0].Addr()
	if _, ok := a.(*net.UnixAddr); ok {
		return "unix:" + a.String()
	}
	return a.String()
}

// clusterPage is GET /cluster on the admin listener.
func (srv *Server) clusterPage() http.Handler {
	return httpkit.Adapt(func(r *http.Request) (Status, error) { return srv.services.Status(r.Context()) })
}
