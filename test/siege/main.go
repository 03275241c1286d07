// Command siege attacks a server with its default settings while people chat, and
// checks that they don't notice: bodies that never end, floods, huge answers, costly
// requests, all at once, from 40 addresses and 20 accounts.
//
// It owns the server, the people and the attackers, each with a bound: the server has
// so much memory, the attackers half a core. It judges by what the people see and by
// the memory that the server has afterwards, never by what the server says of itself.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"stoa/test/kit"
)

// Bounds.
const (
	slowestSend = 500 * time.Millisecond // p99 of the sends of people
	memoryLeft  = 100 << 20              // more than before the attack, after the settling time
	warmUp      = 20 * time.Second       // people chat alone, before
)

type options struct {
	binary  string
	length  time.Duration
	settle  time.Duration
	memory  int64 // bytes
	kinds   []string
	attack  bool
	profile string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "siege: FAILED:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var o options
	var only string
	flags := flag.NewFlagSet("siege", flag.ContinueOnError)
	flags.StringVar(&o.binary, "binary", "bin/stoa", "the server under attack")
	minutes := flags.Float64("minutes", 5, "how long the attack lasts")
	flags.DurationVar(&o.settle, "settle", 2*time.Minute, "time after the attack until memory is compared")
	mebibytes := flags.Int64("memory", 1024, "memory of the server in MiB")
	flags.StringVar(&only, "only", "", "kinds of attack, separated by commas ("+strings.Join(kindNames(), ", ")+"); empty = all")
	flags.BoolVar(&o.attack, "attack", false, "be the attackers: the plan comes by standard input (the program starts itself so)")
	flags.StringVar(&o.profile, "profile", "", "write a CPU and a heap profile of the server to this folder during the attack")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "siege: attack a server while people chat, and see whether they notice\n\nExample:\n  bin/siege -minutes 2 -only bodies,floods\n\nFlags:")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if o.attack {
		return attack(ctx, os.Stdin)
	}
	o.length, o.memory = time.Duration(*minutes*float64(time.Minute)), *mebibytes<<20
	o.kinds = kindNames()
	if only != "" {
		o.kinds = strings.Split(only, ",")
	}
	for _, kind := range o.kinds {
		if attacks[kind] == nil {
			return fmt.Errorf("there is no attack %q; there are %s", kind, strings.Join(kindNames(), ", "))
		}
	}
	return besiege(ctx, o)
}

// besiege is the whole run.
func besiege(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "stoa-siege-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	say("writing %d accounts", accounts)
	people, attackers, err := seed(ctx, filepath.Join(dir, "stoa.db"), accounts)
	if err != nil {
		return fmt.Errorf("write the data: %w", err)
	}
	admin, err := kit.FreeAddress()
	if err != nil {
		return err
	}
	server, err := kit.NewServer("stoa", o.binary, dir, "STOA_RATE_LIMITS=on", "STOA_LOG_LEVEL=warn", "STOA_ADMIN_LISTEN="+admin)
	if err != nil {
		return err
	}
	bound, wrap := boundMemory("memory", o.memory)
	server.Wrap = wrap
	defer func() { // a group with a process in it can't be removed
		server.Kill()
		bound.remove()
	}()
	if err := server.Start(); err != nil {
		return err
	}
	say("the server has %d MiB (%s)", o.memory>>20, bound)

	chat, err := newChat(ctx, server.Listen, people)
	if err != nil {
		return fmt.Errorf("people meet: %w", err)
	}
	defer chat.stop()
	if err := wait(ctx, server, warmUp); err != nil {
		return err
	}
	before, err := kit.Resident(server.PID())
	if err != nil {
		return err
	}
	quiet := chat.measure()
	say("before: %s; memory %d MiB", quiet, before>>20)

	most, err := underAttack(ctx, o, server, chat, plan{
		Address: server.Listen, Kinds: o.kinds, Accounts: attackers, Victim: people[0].UserID, Length: o.length,
	}, admin)
	if err != nil {
		return err
	}
	during := chat.measure()
	say("during: %s; memory at most %d MiB", during, most>>20)
	if err := wait(ctx, server, o.settle); err != nil {
		return err
	}
	after, err := kit.Resident(server.PID())
	if err != nil {
		return err
	}
	if o.profile != "" {
		profileAfter(ctx, admin, o.profile)
	}
	rest := chat.measure()
	say("after: %s; memory %d MiB, %+d MiB", rest, after>>20, (after-before)>>20)
	return errors.Join(quiet.judge("before"), during.judge("during the attack"), rest.judge("after it"), chat.missing(ctx),
		judgeMemory(before, most, after, o.memory))
}

func judgeMemory(before, most, after, limit int64) error {
	var errs []error
	if most > limit {
		errs = append(errs, fmt.Errorf("the server took %d MiB of %d", most>>20, limit>>20))
	}
	if after-before > memoryLeft {
		errs = append(errs, fmt.Errorf("the server has %d MiB more than before the attack, more than %d", (after-before)>>20, memoryLeft>>20))
	}
	return errors.Join(errs...)
}

// underAttack lets the attackers, a process of their own, do their work, and gives the most memory that the server had.
func underAttack(ctx context.Context, o options, server *kit.Server, chat *chat, p plan, admin string) (most int64, err error) {
	text, err := json.Marshal(p)
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, "-attack")
	cmd.Stdin, cmd.Stdout = strings.NewReader(string(text)), os.Stdout
	attackers, err := kit.Launch("attackers", server.Dir, cmd)
	if err != nil {
		return 0, err
	}
	defer attackers.Kill()
	bound := boundCPU(attackers.PID(), 0.5)
	defer func() {
		attackers.Kill()
		bound.remove()
	}()
	say("attack for %v: %s; attackers have half a core (%s)", o.length, strings.Join(o.kinds, ", "), bound)
	if o.profile != "" {
		go profile(ctx, admin, o.profile, o.length/2)
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	report := time.NewTicker(30 * time.Second)
	defer report.Stop()
	end := time.After(o.length + 30*time.Second)
	for {
		select {
		case <-ctx.Done():
			return most, ctx.Err()
		case <-server.Gone():
			return most, server.Ended()
		case <-attackers.Gone():
			if err := attackers.Err(); err != nil {
				return most, fmt.Errorf("the attackers: %w\n%s", err, attackers.Log())
			}
			return most, nil
		case <-end:
			return most, errors.New("the attackers did not end")
		case <-report.C:
			say("  so far: %s", chat.peek())
		case <-tick.C:
			now, err := kit.Resident(server.PID())
			if err != nil {
				return most, errors.Join(err, server.Ended())
			}
			most = max(most, now)
		}
	}
}

// wait waits while the server runs.
func wait(ctx context.Context, server *kit.Server, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-server.Gone():
		return server.Ended()
	case <-time.After(d):
		return nil
	}
}

func say(format string, args ...any) { fmt.Printf("siege: "+format+"\n", args...) }
