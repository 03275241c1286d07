package server

import "stoa/internal/push"

func (srv *Server) newPush() *push.Push {
	s := srv.services
	return push.New(push.Options{Store: s.Store, Accounts: s.Accounts, AllowPrivate: bool(srv.opt.Config.FederationAllowPrivate), Log: srv.opt.Log})
}
