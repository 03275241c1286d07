package main

// mutant is a build of the server with one thing broken, and the test that has to find out.
type mutant struct {
	name, breaks string
	edits        []edit
	pkg, test    string // the folder of the test, and a regular expression for -run
}

// edit replaces a text of a file. The text has to be there, once.
type edit struct{ path, was, is string }

// mutants are all builds that have to be caught. Whoever moves or rewrites what an edit names, names the new place here.
var mutants = []mutant{
	{
		name: "stale-barrier-head", breaks: "the read barrier gives the head that this instance knows, without asking the database",
		edits: []edit{{"internal/store/barrier.go", "if !s.Shared() {\n\t\treturn s.Head(), nil", "if true {\n\t\treturn s.Head(), nil"}},
		pkg:   "internal/store", test: "^TestBarrier$",
	},
	{
		name: "stale-barrier-round", breaks: "whoever comes while a query of the barrier is under way shares its answer, which is older than they are",
		edits: []edit{
			{"internal/store/barrier.go", "\tb.next, b.began, b.busy = nil, time.Now(), r.callers > 1\n", "\tb.began, b.busy = time.Now(), r.callers > 1\n"},
			{"internal/store/barrier.go", "\t\tr.end(b.readHead(r.rows))\n", "\t\tpos, err := b.readHead(r.rows)\n\t\tb.mu.Lock()\n\t\tb.next = nil\n\t\tb.mu.Unlock()\n\t\tr.end(pos, err)\n"},
		},
		pkg: "internal/store", test: "^TestBarrierIsNotOlderThanItsCaller$",
	},
	{
		name: "stale-memory", breaks: "a request goes on before what is kept in memory has reached the head that the barrier found",
		edits: []edit{{"internal/streamcache/following.go", "err = f.cache.Await(soon, at)\n\tif errors.Is", "_, _ = soon, at\n\tif errors.Is"}},
		pkg:   "internal/streamcache", test: "^TestBarrier_tells_followers$",
	},
	{
		name: "lost-wake-up-look", breaks: "a sync looks and attaches in two critical sections: what happens in between wakes nobody",
		edits: []edit{{"internal/streamcache/delta.go", "\tc.Since = max(c.Since, p.Upto)\n\tif w != nil {\n",
			"\tc.Since = max(c.Since, p.Upto)\n\tsc.mu.Unlock()\n\ttime.Sleep(5 * time.Millisecond)\n\tsc.mu.Lock()\n\tif w != nil {\n"}},
		pkg: "internal/streamcache", test: "^TestNews_while_a_wait_begins$",
	},
	{
		name: "lost-wake-up-device", breaks: "of the devices of a user that wait, one is woken",
		edits: []edit{{"internal/streamcache/fanout.go", "for i := len(u.waiters) - 1; i >= 0; i-- {\n\t\t\tw := u.waiters[i]", "for i := min(0, len(u.waiters)-1); i >= 0; i-- {\n\t\t\tw := u.waiters[i]"}},
		pkg:   "internal/streamcache", test: "^TestNews_wake_every_device$",
	},
	{
		name: "lost-wake-up-early", breaks: "a wake-up that comes before a parked request waits is forgotten",
		edits: []edit{{"internal/parking/parked.go", "p.woken = p.woken || wake && resume == nil", "_ = wake"}},
		pkg:   "internal/parking", test: "^TestParkedIsWokenBeforeItWaits$",
	},
	{
		name: "dropped-next-request", breaks: "what a client sent behind a parked request is lost with its answer",
		edits: []edit{{"internal/parking/parked.go", "p.conn.awaitNext(p.readAhead)", "p.conn.awaitNext(nil)"}},
		pkg:   "internal/parking", test: "^TestPark$",
	},
	{
		name: "dropped-parked-request", breaks: "a parked request whose client has sent something is closed without an answer",
		edits: []edit{{"internal/parking/parked.go", "resume(open)", "resume(false)"}},
		pkg:   "internal/parking", test: "^TestPark$",
	},
	{
		name: "dropped-at-drain", breaks: "a server that stops does not wait for parked requests",
		edits: []edit{{"internal/parking/listener.go", "\t\tp.requests.Wait()\n\t\tclose(done)", "\t\tclose(done)"}},
		pkg:   "internal/parking", test: "^TestDrainIsNotOverBeforeAParkedRequest$",
	},
}
