package parking

import "time"

// MaxRequest is the longest request that is served on a parked connection.
const MaxRequest = maxRequest

// IsServed reports whether a request is served on a parked connection whose requests have the path.
func IsServed(request, path string) bool {
	reader := requestParsers.Get().(*requestParser)
	defer requestParsers.Put(reader)
	return reader.parse([]byte(request), path) != nil
}

// MakeOlder makes it look as if the request had been parked earlier.
func (p *Parked) MakeOlder(by time.Duration) { p.since = p.since.Add(-by) }

// SharesConnection reports whether two requests were parked on one connection that did not return to the server between them.
func (p *Parked) SharesConnection(other *Parked) bool { return p.conn == other.conn }

// Listener is that of its connection.
func (p *Parked) Listener() *Listener { return p.conn.listener }

// Watched counts the parked connections.
func (p *Listener) Watched() int { return len(p.watcher.all()) }

// Closed is closed once Close is called.
func (p *Listener) Closed() <-chan struct{} { return p.closed }
