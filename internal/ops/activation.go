package ops

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"stoa/internal/server"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// inherit takes over the sockets that were passed to this process (LISTEN_FDS). A single
// one may have any name: it is for clients.
func inherit() (server.Sockets, error) {
	named, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("take the sockets that the service manager opened: %w", err)
	}
	return assign(named)
}

func assign(named map[string][]net.Listener) (server.Sockets, error) {
	known := []string{server.SocketClient, server.SocketFederation, server.SocketAdmin}
	sockets, all := server.Sockets{}, 0
	for _, list := range named {
		all += len(list)
	}
	for name, list := range named {
		if all == 1 && !slices.Contains(known, name) {
			name = server.SocketClient
		}
		if !slices.Contains(known, name) || len(list) != 1 {
			return nil, errors.Join(fmt.Errorf("%d sockets named %q were opened for this server: it takes one of each of the names %s (FileDescriptorName= of the socket unit)",
				len(list), name, strings.Join(known, ", ")), closeAll(named))
		}
		sockets[name] = list[0]
	}
	return sockets, nil
}

func closeAll(named map[string][]net.Listener) error {
	var errs []error
	for _, list := range named {
		for _, l := range list {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// tell reports the state of this process to the service manager, if NOTIFY_SOCKET asks
// for it.
func tell(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("the service manager could not be told", "err", err)
	}
}

const (
	tellReady    = daemon.SdNotifyReady
	tellStopping = daemon.SdNotifyStopping
)
