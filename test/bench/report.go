package main

import (
	"fmt"
	"strconv"
	"time"
)

// figure is one line of the report.
type figure struct {
	name  string
	value float64
	unit  string
	ratio float64 // to its floor; 0 = it has none
	met   verdict
	cpu   time.Duration // of the client
}

// verdict says whether a target is met.
type verdict string

const (
	met    verdict = "met"
	missed verdict = "missed"
	none   verdict = "-" // a floor, or a figure without a target
)

func metIf(ok bool) verdict {
	if ok {
		return met
	}
	return missed
}

// print writes the line: name value unit ratio-to-floor met|missed, and what
// the client took of the cores that it shares with the server.
func (f figure) print() {
	ratio := "-"
	if f.ratio != 0 {
		ratio = strconv.FormatFloat(f.ratio, 'f', 3, 64)
	}
	fmt.Printf("%-32s %12.2f %-14s %8s %-6s client-cpu %.2fs\n", f.name, f.value, f.unit, ratio, f.met, f.cpu.Seconds())
}
