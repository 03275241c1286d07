package clientsync

import (
	"testing"
	"time"
)

// TestLags: a long lag counts for half a second, however prompt the ticks after it are.
func TestLags(t *testing.T) {
	t.Parallel()
	var l lags
	if longest := l.add(time.Second); longest != time.Second {
		t.Errorf("the longest is %v", longest)
	}
	for tick := 1; tick < lagTicks; tick++ {
		if longest := l.add(time.Millisecond); longest != time.Second {
			t.Fatalf("the longest is %v after %d prompt ticks", longest, tick)
		}
	}
	if longest := l.add(time.Millisecond); longest != time.Millisecond {
		t.Errorf("the longest is %v after %d prompt ticks", longest, lagTicks)
	}
}
