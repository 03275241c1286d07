package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"stoa/internal/auth"
	"stoa/internal/store"
	"stoa/internal/store/userdb"
	"stoa/test/kit"
)

const (
	serverName = "localhost" // the default
	accounts   = 26_000      // so that a search in the directory has something to read
	chatters   = 50
	attackers  = 20
)

// seed writes accounts and gives the sessions of those who chat and of those who attack. Logging in is not part of what
// is tried here, and hashing so many passwords would take an hour.
func seed(ctx context.Context, file string, accounts int) (people, enemies []kit.Session, err error) {
	s, err := store.Open(ctx, store.Options{URL: file, ServerName: serverName})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	const group = 1000
	for from := 0; from < accounts; from += group {
		var names []string
		for i := from; i < min(from+group, accounts); i++ {
			names = append(names, fmt.Sprintf("@person%d:%s", i, serverName))
		}
		nums, err := s.InternUsers(ctx, func(string) bool { return true }, names...)
		if err != nil {
			return nil, nil, err
		}
		now := time.Now().UnixMilli()
		var pending []*store.Pending
		for i, num := range nums {
			c := store.NewChange()
			userdb.AddAccount(c, num, "", false, now)
			if n := from + i; n < chatters+attackers {
				session := kit.Session{UserID: names[i], DeviceID: "DEVICE", AccessToken: auth.AccessTokenStart(names[i]) + rand.Text()}
				hash := auth.HashOf(session.AccessToken)
				userdb.PutDevice(c, num, userdb.Device{ID: session.DeviceID, CreatedTS: now})
				userdb.AddAccessToken(c, hash[:], num, session.DeviceID, 0, 0)
				if n < chatters {
					people = append(people, session)
				} else {
					enemies = append(enemies, session)
				}
			}
			pending = append(pending, s.CommitAsync(c))
		}
		for _, p := range pending {
			if _, err := p.Wait(ctx); err != nil {
				return nil, nil, err
			}
		}
	}
	return people, enemies, nil
}
