package server

import (
	"stoa/internal/auth"
	"stoa/internal/clientapi"
	"stoa/internal/config"
)

// terms groups the lines of the setting by document, with their languages.
func terms(list config.Terms) auth.Terms {
	all := auth.Terms{}
	for _, d := range list {
		if all[d.ID].Languages == nil {
			all[d.ID] = auth.Policy{Version: d.Version, Languages: map[string]auth.PolicyText{}}
		}
		all[d.ID].Languages[d.Language] = auth.PolicyText{Name: d.Name, URL: d.URL}
	}
	return all
}

// support is the content of /.well-known/matrix/support; nil if nothing is set.
func support(cfg *config.Config) *clientapi.Support {
	if len(cfg.SupportContacts) == 0 && cfg.SupportPage == "" {
		return nil
	}
	out := &clientapi.Support{SupportPage: cfg.SupportPage}
	for _, c := range cfg.SupportContacts {
		out.Contacts = append(out.Contacts, clientapi.Contact{MatrixID: c.MatrixID.String(), EmailAddress: c.Email, Role: c.Role})
	}
	return out
}
