package auth

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The page for operators has the table of limits as it is.
func TestLimits_are_in_the_docs(t *testing.T) {
	t.Parallel()
	const file = "../../docs/operations.md"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range rateLimits {
		row := fmt.Sprintf("| %s | %s | %d | %s | %s |", l.what, l.per, l.burst, l.every, l.reason)
		if !strings.Contains(string(page), row) {
			t.Errorf("%s does not have the row\n%s", file, row)
		}
	}
}
