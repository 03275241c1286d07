package server

import (
	"net/netip"
	"testing"
	"time"
)

// A server lingers for two intervals of whoever asks for /ready.
func TestLinger(t *testing.T) {
	t.Parallel()
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	now := time.Unix(1_700_000_000, 0)
	every := func(from netip.Addr, interval, phase time.Duration, n int) (list []healthCheck) {
		for i := range n {
			list = append(list, healthCheck{now.Add(-phase - time.Duration(n-1-i)*interval), from})
		}
		return list
	}
	both := func(lists ...[]healthCheck) (all []healthCheck) {
		for _, list := range lists {
			all = append(all, list...)
		}
		return all
	}
	for name, c := range map[string]struct {
		asked []healthCheck
		want  time.Duration
	}{
		"nobody_asks":                   {nil, 0},
		"somebody_looked_once":          {every(one, time.Second, 0, 1), 0},
		"a_balancer":                    {every(one, time.Second, 0, 20), 2*time.Second + lingerMore},
		"a_slow_one_is_not_waited_for":  {every(one, 10*time.Second, 0, 3), lingerTime},
		"one_that_has_gone":             {every(one, time.Second, time.Minute, 20), 0},
		"the_slower_of_two":             {both(every(one, time.Second, 0, 20), every(two, 1500*time.Millisecond, 0, 20)), 3*time.Second + lingerMore},
		"three_on_one_address":          {both(every(one, time.Second, 0, 20), every(one, time.Second, 300*time.Millisecond, 20), every(one, time.Second, 450*time.Millisecond, 20)), 2*time.Second + lingerMore},
		"no_order_in_it":                {both(every(one, time.Second, 0, 20), every(one, 700*time.Millisecond, 0, 20)), lingerTime},
		"a_start_that_was_waited_for":   {both(every(one, 20*time.Millisecond, 20*time.Second, 50), every(one, time.Second, 0, 10)), 2*time.Second + lingerMore},
		"more_than_are_kept_in_memory":  {every(one, 10*time.Millisecond, 0, 3*askedKept), 20*time.Millisecond + lingerMore},
		"a_little_early_and_late_is_ok": {[]healthCheck{{now.Add(-2050 * time.Millisecond), one}, {now.Add(-time.Second), one}, {now, one}}, 2100*time.Millisecond + lingerMore},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var a healthChecks
			// in the order of time
			for len(c.asked) > 0 {
				first := 0
				for i, q := range c.asked {
					if q.at.Before(c.asked[first].at) {
						first = i
					}
				}
				a.note(c.asked[first].at, c.asked[first].from)
				c.asked = append(append([]healthCheck(nil), c.asked[:first]...), c.asked[first+1:]...)
			}
			if got := a.linger(now); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
			if len(a.last) > askedKept {
				t.Errorf("%d are kept", len(a.last))
			}
		})
	}
}
