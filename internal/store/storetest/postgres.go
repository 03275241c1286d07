package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"stoa/internal/store"
)

// cluster is the PostgreSQL of this test process.
var cluster = sync.OnceValues(startCluster)

// alive are held open until this process ends. A variable that is collected would
// close them.
var alive []io.Closer

var databases atomic.Int64

// template is a database of the cluster with the schema, and nothing in it.
var template = sync.OnceValues(func() (string, error) {
	admin, err := cluster()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("stoa_template_%d", os.Getpid())
	if err := execSQL(admin, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	url := databaseURL(admin, name)
	s, err := store.Open(context.Background(), store.Options{URL: url, ServerName: ServerName})
	if err != nil {
		return "", err
	}
	return name, errors.Join(s.Close(), execSQL(url, "DELETE FROM meta WHERE name = 'server_name'"))
})

// postgresURL makes a database of its own for a test, with the schema or empty.
func postgresURL(t testing.TB, empty bool) string {
	t.Helper()
	admin, err := cluster()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("stoa_%d_%d", os.Getpid(), databases.Add(1))
	create := "CREATE DATABASE " + name
	if !empty {
		from, err := template()
		if err != nil {
			t.Fatal(err)
		}
		create += " TEMPLATE " + from + " STRATEGY FILE_COPY"
	}
	if err := execSQL(admin, create); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := execSQL(admin, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return databaseURL(admin, name)
}

func databaseURL(admin, name string) string {
	return strings.Replace(admin, "/postgres?", "/"+name+"?", 1)
}

func execSQL(url, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, sql)
	return errors.Join(err, c.Close(ctx))
}

// startCluster makes a temporary cluster on a Unix socket, if the environment
// variable STOA_TEST_POSTGRES doesn't name one (as
// postgres://user@/postgres?host=/folder/of/the/socket). A shell that waits on
// a pipe from this process ends it when the process is gone, however it went.
func startCluster() (string, error) {
	if url := os.Getenv("STOA_TEST_POSTGRES"); url != "" {
		return url, nil
	}
	if runtime.GOOS == "windows" {
		return "", errors.New("set STOA_TEST_POSTGRES to the URL of a PostgreSQL server's database postgres")
	}
	bin, err := postgresBin()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(memoryDir(), "stoa-pg-")
	if err != nil {
		return "", err
	}
	attr, err := asPostgres(dir)
	if err != nil {
		return "", err
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", dir+"/data", "-U", "stoa", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
	initdb.SysProcAttr, initdb.Dir = attr, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, out)
	}
	server := exec.Command("/bin/sh", "-c", `
		"$0" -D "$1/data" -k "$1" -c listen_addresses= -c max_connections=200 -c shared_buffers=32MB \
			-c full_page_writes=off -c wal_level=minimal -c max_wal_senders=0 -c log_min_messages=fatal >"$1/log" 2>&1 &
		pid=$!
		read -r never
		kill -INT $pid
		wait $pid
		rm -rf "$1"`, filepath.Join(bin, "postgres"), dir)
	server.SysProcAttr, server.Dir = attr, dir
	pipe, err := server.StdinPipe()
	if err != nil {
		return "", err
	}
	alive = append(alive, pipe)
	if err := server.Start(); err != nil {
		return "", err
	}
	url := fmt.Sprintf("postgres://stoa@/postgres?host=%s", dir)
	return url, awaitCluster(url, dir)
}

// memoryDir is a folder in memory if this system has one with room for a cluster:
// tests make and drop hundreds of databases, which costs a disk more than they do.
// Otherwise it is empty: the usual folder.
func memoryDir() string {
	const dir, room = "/dev/shm", 2 << 30
	if os.Getenv("TMPDIR") != "" {
		return ""
	}
	var s syscall.Statfs_t
	if runtime.GOOS != "linux" || syscall.Statfs(dir, &s) != nil || int64(s.Bavail)*int64(s.Bsize) < room {
		return ""
	}
	return dir
}

func awaitCluster(url, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		c, err := pgx.Connect(ctx, url)
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(dir + "/log")
			return fmt.Errorf("start PostgreSQL: %w\n%s", err, log)
		case <-time.After(20 * time.Millisecond): // the server has no other way to say that it is up
		}
	}
}

func postgresBin() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errors.New("no PostgreSQL found for the tests: install the Debian package postgresql, " +
			"or set STOA_TEST_POSTGRES, or narrow the run with ENGINE=sqlite")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// asPostgres gives dir to the user postgres if this process is root, as whom
// PostgreSQL refuses to run.
func asPostgres(dir string) (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{Setpgid: true} // ctrl-C ends the tests first
	if os.Getuid() != 0 {
		return attr, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr, os.Chown(dir, uid, gid)
}
