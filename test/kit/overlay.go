package kit

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Edit replaces every occurrence of a text in a file of the repository.
type Edit struct{ File, Old, New string }

// BuildChanged builds the server with some edits, into dir/name, and gives the binary. The repository stays as it is. The
// program must run in its root. A file that does not hold the text to replace is an error.
func BuildChanged(dir, name string, edits ...Edit) (binary string, err error) {
	texts := map[string]string{} // by path
	for _, e := range edits {
		file, err := filepath.Abs(e.File)
		if err != nil {
			return "", err
		}
		if _, ok := texts[file]; !ok {
			text, err := os.ReadFile(file)
			if err != nil {
				return "", fmt.Errorf("%w; run this in the root of the repository", err)
			}
			texts[file] = string(text)
		}
		if !strings.Contains(texts[file], e.Old) {
			return "", fmt.Errorf("%s does not say %q any more; look for what it says now", e.File, e.Old)
		}
		texts[file] = strings.ReplaceAll(texts[file], e.Old, e.New)
	}
	replace := map[string]string{}
	for file, text := range texts {
		copied := filepath.Join(dir, fmt.Sprintf("%s-%d-%s", name, len(replace), filepath.Base(file)))
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[file] = copied
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, name+"-overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	binary = filepath.Join(dir, name)
	return binary, Build(".", binary, "-overlay", list)
}

// Build builds the server of the repository at root. The flags are those of `make build`, which has compiled the rest then.
func Build(root, binary string, flags ...string) error {
	args := append(append([]string{"build", "-trimpath", "-buildvcs=false"}, flags...), "-o", binary, "./cmd/stoa")
	build := exec.Command("go", args...)
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return nil
}
