// Command stoa is the server and its tools in one program; package ops has
// what its commands do. This package turns their outcome into an exit status
// and holds nothing else.
package main

import (
	"os"

	"stoa/internal/ops"
)

func main() { os.Exit(ops.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)) }
