// Package peers proves the server with real, unmodified Matrix clients:
// matrix-js-sdk with its Rust crypto, driven through js/driver.mjs, mautrix-go
// with its pure-Go crypto (build tag goolm), and two clients of Debian with
// libolm: matrix-nio, driven through nio/driver.py, and WeeChat without a screen
// with weechat-matrix, driven through its fifo and read from its logs.
//
// It owns the processes that it starts: one server on a loopback port and one
// Node, Python or WeeChat process a client. It never reaches into the server: what the
// clients see is all that counts. The one invariant: no message that a client
// was told is sent is missing or unreadable on the other side.
package peers
