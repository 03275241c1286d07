package kit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Postgres is a PostgreSQL cluster of our own, so that it can be killed. It is
// reachable by a unix socket in its folder, and where its settings say.
type Postgres struct {
	Bin, Dir string
	Settings []string // name=value each
	as       *syscall.Credential
	process  *Process
}

// NewPostgres makes and starts a cluster in a folder, which must be empty. Lines of hba are added to pg_hba.conf.
func NewPostgres(bin, dir, hba string, settings ...string) (*Postgres, error) {
	if bin == "" {
		return nil, errors.New("-postgres-bin is needed: the folder of initdb and postgres (Debian package postgresql)")
	}
	p := &Postgres{Bin: bin, Dir: dir, Settings: settings}
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, err
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2, os.Chown(dir, uid, gid)); err != nil {
			return nil, err
		}
		p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	initdb := p.command("initdb", "-D", p.data(), "-U", "stoa", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	file, err := os.OpenFile(filepath.Join(p.data(), "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = file.WriteString(hba)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	return p, p.Start()
}

func (p *Postgres) data() string { return filepath.Join(p.Dir, "data") }

// URL is the database postgres, by the socket.
func (p *Postgres) URL() string { return "postgres://stoa@/postgres?host=" + p.Dir }

func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.Bin, name), args...)
	cmd.Dir, cmd.SysProcAttr = p.Dir, &syscall.SysProcAttr{Credential: p.as}
	return cmd
}

// Start starts the database, again and again while processes of the killed one are still there: they lead process groups
// of their own, end only when they notice that their parent is gone, and it refuses to start beside them.
func (p *Postgres) Start() error {
	deadline := time.Now().Add(StartWithin)
	for tries := 1; ; tries++ {
		err := p.launch()
		if err == nil || p.process == nil {
			return err
		}
		select {
		case <-p.process.gone:
		default:
			return err // it runs and does not answer
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL did not start within %v, tried %d times: %w", StartWithin, tries, err)
		}
		time.Sleep(100 * time.Millisecond) // nobody tells when the old processes are gone
	}
}

// launch starts the database once and waits until it answers.
func (p *Postgres) launch() (err error) {
	args := []string{"-D", p.data(), "-k", p.Dir}
	for _, s := range p.Settings {
		args = append(args, "-c", s)
	}
	if p.process, err = Launch("postgres", p.Dir, p.command("postgres", args...)); err != nil {
		return err
	}
	return p.process.Await(func() error {
		return exec.Command(filepath.Join(p.Bin, "pg_isready"), "-q", "-h", p.Dir, "-U", "stoa", "-d", "postgres").Run()
	})
}

// Kill ends all processes of the cluster at once.
func (p *Postgres) Kill() {
	if p != nil {
		p.process.Kill()
	}
}

// Remove kills the cluster and removes its folder.
func (p *Postgres) Remove() error {
	p.Kill()
	return os.RemoveAll(p.Dir)
}
