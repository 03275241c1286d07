//go:build !goexperiment.jsonv2

package differential

import "testing"

// TestExperiment fails where half of the comparison is missing.
func TestExperiment(t *testing.T) {
	t.Fatal("mautrix needs GOEXPERIMENT=jsonv2: run `GOEXPERIMENT=jsonv2 go test ./...`")
}

// Without the experiment there is nothing to compare with; TestExperiment has failed for it.

func mautrixCanonical(*testing.T, []byte, []byte) {}

func mautrixLenient(*testing.T, string, string) {}
