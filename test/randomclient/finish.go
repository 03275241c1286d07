package main

import (
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"time"
)

// finish has every device sync once more, and compares what it knows with what a fresh initial sync says.
func (w *model) finish() error {
	w.version++
	for _, d := range w.devices {
		if err := d.sync(syncing{limit: 20}); err != nil {
			return err
		}
		if err := d.compareWalk(); err != nil {
			return err
		}
		if err := d.compareFresh(); err != nil {
			return err
		}
		if !reflect.DeepEqual(d.view.secret, d.due) && len(d.view.secret)+len(d.due) > 0 {
			w.report("", d.name, "messages to the device: %v came, and %v were sent", d.view.secret, d.due)
		}
	}
	return nil
}

// compareWalk walks a room back in small steps from a token of /sync, and compares with the walk in large ones.
func (d *device) compareWalk() error {
	for _, known := range d.w.rooms {
		if known.membership[d.user] != "join" {
			continue
		}
		query := url.Values{"filter": {`{"room":{"rooms":["` + known.id + `"],"timeline":{"limit":3}}}`}}
		res, err := d.w.call(http.DefaultClient, d.token, "GET", "/v3/sync", query, nil, nil)
		if err != nil {
			return err
		}
		entry := object(res.body, "rooms", "join", known.id)
		got := events(entry, "timeline")
		slices.Reverse(got)
		older, err := d.walk(known.id, text(object(entry, "timeline"), "prev_batch"), 1+d.w.rnd.IntN(7))
		if err != nil {
			return err
		}
		t, err := d.w.tell(d.user, known.id)
		if err != nil {
			return err
		}
		all := slices.DeleteFunc(append(got, older...), func(e map[string]any) bool { // see compareTimeline
			return d.isOwn(e) && !slices.ContainsFunc(t.visible, func(x map[string]any) bool { return text(x, "event_id") == text(e, "event_id") })
		})
		if !slices.Equal(eventIDs(all), eventIDs(t.visible)) {
			d.w.report("", d.name, "%s: a timeline and the walk back from it give %v, and the walk from the end %v", known.id, eventIDs(all), eventIDs(t.visible))
		}
		break // one room is enough for one device
	}
	return nil
}

// compareFresh compares what the device knows with an initial sync of the same device. What may come one answer later is
// waited for.
func (d *device) compareFresh() error {
	res, err := d.w.call(http.DefaultClient, d.token, "GET", "/v3/sync", url.Values{"filter": {`{"room":{"timeline":{"limit":1}}}`}}, nil, nil)
	if err != nil {
		return err
	}
	s := syncing{initial: true, limit: 1}
	d.w.transcript.sync(d.name, s, res.body)
	fresh := &device{lists: map[string]expected{}, w: d.w, user: d.user, id: d.id, name: d.name + " anew", token: d.token, view: newView()}
	a := &answer{s: s, body: res.body, older: newView()}
	fresh.apply(a)
	if err := fresh.compare(a); err != nil {
		return err
	}
	deadline := time.Now().Add(3 * time.Second)
	for d.differs(fresh) && time.Now().Before(deadline) {
		query := url.Values{"since": {d.view.since}, "timeout": {"500"}}
		res, err := d.w.call(http.DefaultClient, d.token, "GET", "/v3/sync", query, nil, nil)
		if err != nil {
			return err
		}
		if err := d.take(plainSync(), res); err != nil {
			return err
		}
	}
	d.reportDifferences(fresh)
	return nil
}

// differs says that something that may come later has not come yet.
func (d *device) differs(fresh *device) bool {
	for _, id := range fresh.sortedRooms() {
		r, f := d.view.rooms[id], fresh.view.rooms[id]
		if r == nil || r.skipped || f.membership != "join" {
			continue
		}
		if !slices.Equal(r.typing, f.typing) || !contains(r.read, f.read) {
			return true
		}
	}
	return false
}

// contains says whether a has what b has. A device may know receipts that a fresh one is not told of.
func contains[K comparable](a, b map[K]string) bool {
	for k, v := range b {
		if a[k] != v {
			return false
		}
	}
	return true
}

func (d *device) reportDifferences(fresh *device) {
	v, f := d.view, fresh.view
	if !reflect.DeepEqual(v.data, f.data) {
		d.w.report("", d.name, "account data: %s, and a fresh sync says %s", encoded(v.data), encoded(f.data))
	}
	for _, known := range d.w.rooms {
		r, g := v.rooms[known.id], f.rooms[known.id]
		if r == nil || g == nil || r.skipped || r.membership != "join" {
			continue
		}
		if !maps.EqualFunc(r.data, g.data, func(a, b any) bool { return reflect.DeepEqual(a, b) }) {
			d.w.report("", d.name, "%s: account data: %s, and a fresh sync says %s", known.id, encoded(r.data), encoded(g.data))
		}
		if !reflect.DeepEqual(r.unread, g.unread) {
			d.w.report("", d.name, "%s: unread: %s, and a fresh sync says %s", known.id, encoded(r.unread), encoded(g.unread))
		}
		if !contains(r.read, g.read) {
			d.w.report("", d.name, "%s: receipts: %v, and a fresh sync says %v", known.id, r.read, g.read)
		}
		// A room that has a name has no heroes to tell; those of before do no harm.
		if !slices.Equal(r.summary.heroes, g.summary.heroes) && !r.nameless && r.summarised && len(g.summary.heroes) > 0 {
			d.w.report("", d.name, "%s: heroes: %v, and a fresh sync says %v", known.id, r.summary.heroes, g.summary.heroes)
		}
		if !slices.Equal(r.typing, g.typing) {
			d.w.report("", d.name, "%s: %v type, and a fresh sync says %v", known.id, r.typing, g.typing)
		}
	}
}
