package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// fence is what the committer compares before it takes a change, and what a
// build that does not compare heads says instead.
var fence = [][2]string{
	{"if part.expect != NoFence && part.expect != o.head {", "if false {"},
	{"case part.expect != NoFence && part.expect != o.head:", "case false:"},
	{"part.First != o.slot+1 || ", ""},
}

// buildBroken builds the server with an overlay in which a group does not
// compare heads, and gives the binary.
func buildBroken(dir string) (string, error) {
	file, err := filepath.Abs("internal/store/commit.go")
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	changed := string(text)
	for _, pair := range fence {
		if !strings.Contains(changed, pair[0]) {
			return "", fmt.Errorf("internal/store/commit.go does not say %q any more; look for what it says now", pair[0])
		}
		changed = strings.ReplaceAll(changed, pair[0], pair[1])
	}
	copied := filepath.Join(dir, "commit.go")
	if err := os.WriteFile(copied, []byte(changed), 0o600); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{file: copied}})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "stoa-broken")
	build := exec.Command("go", "build", "-buildvcs=false", "-overlay", list, "-o", binary, "./cmd/stoa")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return binary, nil
}
