package docs

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"stoa/internal/ops"
)

// beTheProgram makes the test's own binary the program.
const beTheProgram = "DOCS_TEST_BE_THE_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(beTheProgram) != "" {
		os.Exit(ops.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// Blocks that begin with "```sh run" succeed, those of a page in their order on one server.
func TestRunnableBlocksRun(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(command); err != nil {
			t.Skip(err)
		}
	}
	_, pages := readPages(t)
	ran := 0
	for _, p := range pages {
		var code []string
		for _, b := range p.blocks {
			if b.run {
				code = append(code, fmt.Sprintf("echo '== %s:%d'", p.name, b.line))
				code = append(code, b.code...)
				ran++
			}
		}
		if len(code) > 0 {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				runBlocks(t, strings.Join(code, "\n"))
			})
		}
	}
	if ran < 5 {
		t.Errorf("only %d blocks are marked as runnable", ran)
	}
}

// The paths and addresses of the documents, in whose place a test has others.
const (
	documentedConfig = "/etc/stoa/stoa.yaml"
	documentedClient = "127.0.0.1:8008"
	documentedAdmin  = "127.0.0.1:8010"
)

var passwordPattern = regexp.MustCompile(`Password, shown only now: (\S+)`)

// runBlocks runs commands beside a server in a folder of its own. After a command that
// shows a password, PASSWORD in the commands stands for it.
func runBlocks(t *testing.T, code string) {
	dir := t.TempDir()
	client, admin := filepath.Join(dir, "client"), filepath.Join(dir, "admin")
	settings := "data_dir: " + filepath.Join(dir, "data") + "\nclient_listen: unix:" + client + "\nadmin_listen: unix:" + admin + "\n"
	program := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", beTheProgram, must(os.Executable()))
	// A request that is refused must fail its command, and addresses are sockets here.
	curl := "#!/bin/sh\ncase \"$*\" in *" + documentedAdmin + "*) s='" + admin + "' ;; *) s='" + client + "' ;; esac\n" +
		"exec '" + must(exec.LookPath("curl")) + "' --fail --unix-socket \"$s\" \"$@\"\n"
	for name, text := range map[string]string{
		"stoa.yaml": settings, "path/stoa": program, "path/curl": curl, "bin/stoa": program,
		"path/runuser": "#!/bin/sh\nshift 3\nexec \"$@\"\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	environ := []string{"PATH=" + filepath.Join(dir, "path") + ":" + os.Getenv("PATH"), "HOME=" + dir}
	startServer(t, dir, environ)

	code = strings.ReplaceAll(code, documentedConfig, filepath.Join(dir, "stoa.yaml"))
	password := ""
	var script strings.Builder
	flush := func() {
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script.String())
		cmd.Dir, cmd.Env = dir, environ
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if m := passwordPattern.FindSubmatch(out); m != nil {
			password = string(m[1])
		}
		script.Reset()
	}
	for line := range strings.SplitSeq(code, "\n") {
		if strings.HasPrefix(line, "curl") { // it may need a password that was shown
			flush()
		}
		script.WriteString(strings.ReplaceAll(line, "PASSWORD", password) + "\n")
	}
	flush()
}

func must(s string, err error) string {
	if err != nil {
		panic(err) // curl was looked for before, and this program has a path
	}
	return s
}

// startServer starts a server and waits until it serves.
func startServer(t *testing.T, dir string, environ []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "bin", "stoa"), "serve")
	cmd.Dir, cmd.Env = dir, environ
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGKILL) }
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			if strings.Contains(lines.Text(), `msg="server started"`) {
				started <- true
			}
		}
		close(started)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // its data go with it
		for range started {
		}
		_ = cmd.Wait() // killed
	})
	select {
	case ok := <-started:
		if !ok {
			t.Fatal("the server ended")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the server did not start")
	}
}
