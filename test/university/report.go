package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The bounds of a run.
const (
	boundOne    = 350.0           // ms, p99 without the room of all, one instance
	boundThree  = 600.0           // the same with three
	boundAll    = 3 * time.Second // the last delivery of a message to all
	boundMemory = int64(4) << 30  // of all instances together
	boundSeed   = 15 * time.Minute
)

func latencyBound(r *result) float64 {
	if r.instances > 1 {
		return boundThree
	}
	return boundOne
}

// line is a row of the table: what it says of a run, and whether that is within
// its bound.
type line struct {
	name  string
	value func(*result) string
	met   func(*result) bool // nil for what has no bound
	bound string
	// bounded says for which runs the bound is; nil: for all.
	bounded func(*result) bool
}

func percent(cpu time.Duration, r *result) string {
	return fmt.Sprintf("%.0f %%", 100*cpu.Seconds()/r.length.Seconds())
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

func ms(v float64) string { return fmt.Sprintf("%.1f ms", v) }

func (q quantiles) String() string {
	return fmt.Sprintf("%.1f / %.1f / %.1f ms", q.p50, q.p95, q.p99)
}

func (r *result) messages() (n int) {
	for _, m := range r.speech.Messages {
		n += m
	}
	return n
}

func (r *result) deliveries() (seen, expected int) {
	for k := range kinds {
		seen += r.seen[k]
		expected += r.expected[k]
	}
	return seen, expected
}

func (r *result) slowestToAll() time.Duration {
	if len(r.lastToAll) == 0 {
		return 0
	}
	return slices.Max(r.lastToAll)
}

// table is what is printed and written.
func table() []line {
	lines := []line{
		{"people connected", func(r *result) string { return fmt.Sprint(r.people) }, nil, "", nil},
		{"connections", func(r *result) string { return fmt.Sprint(r.devices) }, nil, "", nil},
		{"until all clients had synced and were waiting", func(r *result) string { return fmt.Sprintf("%.0f s", r.connected.Seconds()) }, nil, "", nil},
		{"length of the measured run", func(r *result) string { return fmt.Sprintf("%.0f s", r.seconds) }, nil, "", nil},
		{"messages", func(r *result) string { return fmt.Sprint(r.messages()) }, nil, "", nil},
		{"messages/s, average", func(r *result) string { return fmt.Sprintf("%.1f", float64(r.messages())/r.seconds) }, nil, "", nil},
		{"sends that failed", func(r *result) string { return fmt.Sprint(r.speech.Failed) }, func(r *result) bool { return r.speech.Failed == 0 }, "0", nil},
		{"typing notices set and unset", func(r *result) string { return fmt.Sprint(r.speech.Typing) }, nil, "", nil},
		{"receipts/s, average", func(r *result) string { return fmt.Sprintf("%.1f", float64(r.devicePool.Receipts)/r.seconds) }, nil, "", nil},
		{"receipts that failed", func(r *result) string { return fmt.Sprint(r.devicePool.ReceiptsLost + r.devicePool.ReceiptsFailed) }, nil, "", nil},
		{"syncs that failed", func(r *result) string { return fmt.Sprint(r.devicePool.Failures) }, nil, "", nil},
		{"answers to syncs/s, average", func(r *result) string {
			return fmt.Sprintf("%.0f", float64(r.devicePool.Answers)/r.length.Seconds())
		}, nil, "", nil},
		{"deliveries (a message on a device)", func(r *result) string { n, _ := r.deliveries(); return fmt.Sprint(n) }, nil, "", nil},
		{"missing deliveries", func(r *result) string { n, of := r.deliveries(); return fmt.Sprint(of - n) },
			func(r *result) bool { n, of := r.deliveries(); return n == of && n > 0 }, "0", nil},
		{"send to acknowledged, p50 / p99", func(r *result) string { return fmt.Sprintf("%.1f / %.1f ms", r.speech.AckP50, r.speech.AckP99) }, nil, "", nil},
		{"**send to seen, p50**", func(r *result) string { return ms(r.latency.p50) }, nil, "", nil},
		{"**send to seen, p95**", func(r *result) string { return ms(r.latency.p95) }, nil, "", nil},
		{"**send to seen, p99**", func(r *result) string { return ms(r.latency.p99) }, func(r *result) bool { return r.latency.p99 <= latencyBound(r) },
			fmt.Sprintf("≤ %.0f ms, three instances ≤ %.0f ms", boundOne, boundThree), nil},
		{"send to seen, p99.9 / slowest", func(r *result) string { return fmt.Sprintf("%.0f / %.0f ms", r.latency.p999, r.latency.slowest) }, nil, "", nil},
		{"… sent in bursts, p50 / p95 / p99", func(r *result) string { return r.inBursts.String() }, nil, "", nil},
		{"… sent between bursts", func(r *result) string { return r.between.String() }, nil, "", nil},
	}
	for _, k := range []kind{course, faculty, campus} {
		lines = append(lines, line{"… in rooms " + k.String(), func(r *result) string { return r.ofKind[k].String() }, nil, "", nil})
	}
	return append(lines, []line{
		{"**room of all: last delivery**, slowest of its messages", func(r *result) string { return fmt.Sprintf("%.0f ms", r.slowestToAll().Seconds()*1000) },
			func(r *result) bool { return r.slowestToAll() <= boundAll }, "≤ 3 s", nil},
		{"room of all: last deliveries, median", func(r *result) string { return fmt.Sprintf("%.0f ms", quantile(slices.Clone(r.lastToAll), .5)) }, nil, "", nil},
		{"**memory of the instances together**, most", func(r *result) string { return mebibytes(r.most.servers.memory) },
			func(r *result) bool { return r.most.servers.memory <= boundMemory }, "≤ 4096 MiB", nil},
		{"… when all clients were waiting, before the first message", func(r *result) string { return mebibytes(r.idle.memory) }, nil, "", nil},
		{"memory of PostgreSQL (shared parts once), most", func(r *result) string { return mebibytes(r.most.database.memory) }, nil, "", nil},
		{"memory of the balancers, most", func(r *result) string { return mebibytes(r.most.balancers.memory) }, nil, "", nil},
		{"CPU of the instances together, of one core", func(r *result) string { return percent(r.used.servers.cpu, r) }, nil, "", nil},
		{"CPU of PostgreSQL", func(r *result) string { return percent(r.used.database.cpu, r) }, nil, "", nil},
		{"CPU of the balancers", func(r *result) string { return percent(r.used.balancers.cpu, r) }, nil, "", nil},
		{"CPU of the clients", func(r *result) string { return percent(r.used.clients.cpu, r) }, nil, "", nil},
		{"CPU of everything else on the machine", func(r *result) string { return percent(r.used.otherCPU(), r) }, nil, "", nil},
		{"writing the data (once)", func(r *result) string { return fmt.Sprintf("%.0f s", r.seeded.took.Seconds()) },
			func(r *result) bool { return r.seeded.took <= boundSeed }, "≤ 900 s", nil},
		{"size of the database", func(r *result) string { return mebibytes(r.seeded.bytes) }, nil, "", nil},
	}...)
}

// The bounds of the other loads.
const (
	boundLecture  = 500.0  // ms, p99 from due to seen
	boundReceipts = 100.0  // ms, p99 from wanted to answered
	boundFlood    = 1000.0 // ms, p99 from begun to seen
)

// common picks lines of the table by name.
func common(names ...string) (lines []line) {
	for _, l := range table() {
		if slices.Contains(names, strings.ReplaceAll(l.name, "**", "")) {
			lines = append(lines, l)
		}
	}
	return lines
}

// resources are the lines of what is used, without bounds.
func resources() []line {
	lines := common("memory of the instances together, most", "CPU of the instances together, of one core", "CPU of PostgreSQL",
		"CPU of the balancers", "CPU of the clients", "CPU of everything else on the machine")
	for i := range lines {
		lines[i].met, lines[i].bound = nil, ""
	}
	return lines
}

func lectureTable() []line {
	onSQLite := func(r *result) bool { return r.instances == 1 && r.options.engine == engineSQLite }
	lines := common("people connected", "until all clients had synced and were waiting", "length of the measured run", "messages", "messages/s, average",
		"sends that failed", "typing notices set and unset", "receipts that failed", "syncs that failed",
		"answers to syncs/s, average", "deliveries (a message on a device)", "missing deliveries", "send to acknowledged, p50 / p99")
	lines = append(lines,
		line{name: "receipts/s, average", value: func(r *result) string { return fmt.Sprintf("%.1f", float64(r.devicePool.Receipts)/r.length.Seconds()) }},
		line{name: "receipt due to answered, p50 / p95 / p99", value: func(r *result) string { return r.receipts.String() },
			met: func(r *result) bool { return r.receipts.count > 0 && r.receipts.p99 <= boundReceipts }, bound: "p99 ≤ 100 ms", bounded: onSQLite},
		line{name: "due to seen, p50 / p95 / p99", value: func(r *result) string { return r.latency.String() },
			met: func(r *result) bool { return r.latency.p99 <= boundLecture }, bound: "p99 ≤ 500 ms", bounded: onSQLite})
	lines = append(lines, common("send to seen, p99.9 / slowest", "… in rooms up to 50", "… in rooms up to 500", "… in rooms up to 3,000")...)
	return append(lines, resources()...)
}

func floodTable() []line {
	lines := common("connections", "length of the measured run", "messages", "messages/s, average", "sends that failed", "syncs that failed",
		"deliveries (a message on a device)", "missing deliveries")
	lines = append(lines,
		line{name: "… left out by a limited timeline (counted as seen with it)", value: func(r *result) string { return fmt.Sprint(r.devicePool.Skipped) }},
		line{name: "send begun to acknowledged, p50 / p99", value: func(r *result) string {
			return fmt.Sprintf("%.1f / %.1f ms", r.speech.AckP50, r.speech.AckP99)
		}},
		line{name: "send begun to seen, p50 / p95 / p99", value: func(r *result) string { return r.latency.String() },
			met: func(r *result) bool { return r.latency.p99 <= boundFlood }, bound: "p99 ≤ 1 s"},
		line{name: "send begun to seen, slowest", value: func(r *result) string { return ms(r.latency.slowest) }},
		line{name: "from the last message until all were seen", value: func(r *result) string {
			return fmt.Sprintf("%.1f s", r.length.Seconds()-r.seconds)
		}})
	return append(lines, resources()...)
}

func (l *line) cell(r *result) (text string, missed bool) {
	text = l.value(r)
	if l.met == nil || l.bounded != nil && !l.bounded(r) {
		return text, false
	}
	if l.met(r) {
		return text + ", met", false
	}
	return text + ", **missed**", true
}

// printReport prints the table and gives how many bounds are missed.
func printReport(w io.Writer, lines []line, results []*result) (missed int) {
	for _, r := range results {
		fmt.Fprintf(w, "\n%s\n", r.title())
		for _, l := range lines {
			text, bad := l.cell(r)
			if bad {
				missed++
			}
			bound := l.bound
			if l.bounded != nil && !l.bounded(r) {
				bound = ""
			}
			fmt.Fprintf(w, "  %-55s %s %s\n", strings.ReplaceAll(l.name, "**", ""), strings.ReplaceAll(text, "**", ""), bound)
		}
		if f := r.devicePool.LastFailure; f != "" {
			fmt.Fprintln(w, "  last failure of a sync:", f)
		}
		if f := r.speech.LastFailure; f != "" {
			fmt.Fprintln(w, "  last failure of a send:", f)
		}
	}
	return missed
}

func (r *result) title() string {
	title := "one instance"
	if r.instances > 1 {
		title = "three instances, three HAProxy"
	}
	if r.options.engine == engineSQLite {
		title += ", SQLite"
	}
	if r.options.repeat > 1 {
		title += fmt.Sprintf(", run %d of %d", r.number, r.options.repeat)
	}
	return title
}

// writeDocs writes the page and the plot.
func writeDocs(o options, results []*result) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, intro, o.people, o.rate*0.8, o.rate*1.2, o.burst.Seconds(), o.peak)
	if o.note != "" {
		b.WriteString("\n**Of these runs:** " + o.note + "\n")
	}
	b.WriteString("\n|  |")
	for _, r := range results {
		b.WriteString(" " + r.title() + " |")
	}
	b.WriteString(" bound |\n|---|" + strings.Repeat("---:|", len(results)) + "---|\n")
	for _, l := range table() {
		b.WriteString("| " + l.name + " |")
		for _, r := range results {
			text, _ := l.cell(r)
			b.WriteString(" " + text + " |")
		}
		b.WriteString(" " + l.bound + " |\n")
	}
	b.WriteString(reading)
	if err := os.MkdirAll(filepath.Join(o.docs, "img"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(o.docs, "university.md"), b.Bytes(), 0o644); err != nil {
		return err
	}
	return writePlot(filepath.Join(o.docs, "img", "university.png"), results)
}

const intro = `# A university on two cores

` + "`make university`" + ` wrote this page. It simulates the reference institution: %d accounts on PostgreSQL, in rooms of courses
(up to 50 members), rooms of faculties (up to 500 and up to 3,000), and one room of all. A part of the people are connected with
three devices each, and every device waits in a long poll like a web client. They send %.0f to %.0f messages a second, and
for %.0f s of each minute %.0f: 90 %% of them to rooms of up to 50 members, 9 %% up to 500, 1 %% up to 3,000, and one message a
minute to all. One message in five is preceded by typing, and one in ten deliveries in rooms of up to 100 members is marked as
read.

Servers, PostgreSQL, balancers and all clients share the machine. A process may open 20,000 files, so a single
instance gets 19,000 connections; three instances behind three HAProxy processes (` + "`deploy/haproxy-tcp.cfg`" + `) get all of them. Processes on
the same machine connect through Unix sockets (to PostgreSQL, and from HAProxy to the instances). Instances run with ` + "`GOGC=" + gogc + "`" + `, which
trades memory for time ([operations](operations.md#memory)). Each instance and each HAProxy has as many threads as its share of
the cores (` + "`GOMAXPROCS`, `nbthread`" + `). A message carries the time at which it was due. Its latency ends when a device has read the
response that contains it.

![Latency over the runs](img/university.png)
`

const reading = `
Room sizes are spread evenly over their logarithm. The measured run begins after a minute of the same load without
bursts. CPU is a percentage of one core (the machine has two), over the measured run and the 10 s after it. The line "everything else" covers
the kernel's own work and all other processes. Memory is resident
memory; for PostgreSQL, memory that its processes share counts once. The quantiles exclude messages to the room of all, but include
their effect on other messages.
`
