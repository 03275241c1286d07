package kit

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Edit replaces a text in a file of the repository. The text has to be there once.
type Edit struct{ File, Old, New string }

// Overlay writes changed copies of files into a folder, and gives the list of them that go build and go test take by
// -overlay. The repository stays as it is. The program must run in its root.
func Overlay(dir string, edits ...Edit) (list string, err error) {
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
		if n := strings.Count(texts[file], e.Old); n != 1 {
			return "", fmt.Errorf("%s says %q %d times, want once: look for what it says now", e.File, e.Old, n)
		}
		texts[file] = strings.Replace(texts[file], e.Old, e.New, 1)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	replace := map[string]string{}
	for file, text := range texts {
		copied := filepath.Join(dir, fmt.Sprintf("%d-%s", len(replace), filepath.Base(file)))
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[file] = copied
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list = filepath.Join(dir, "overlay.json")
	return list, os.WriteFile(list, overlay, 0o600)
}

// BuildChanged builds the server with some edits as dir/name.
func BuildChanged(dir, name string, edits ...Edit) (binary string, err error) {
	list, err := Overlay(filepath.Join(dir, name+"-overlay"), edits...)
	if err != nil {
		return "", err
	}
	binary = filepath.Join(dir, name)
	return binary, Build(".", binary, "-overlay", list)
}

// Build builds the server of the repository at root.
func Build(root, binary string, flags ...string) error {
	args := append(append([]string{"build", "-buildvcs=false"}, flags...), "-o", binary, "./cmd/stoa")
	build := exec.Command("go", args...)
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return nil
}
