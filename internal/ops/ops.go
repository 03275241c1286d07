// Package ops implements the commands of the program stoa.
//
// It owns the command line, and the requests of commands to a running server through the
// socket in its data directory. It never implements a command's effect on users or rooms:
// the domain packages do. Package server assembles a server.
//
// The invariant: a command has the same effect whether a server runs or not, and never
// opens a SQLite file that a server has open.
package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"stoa/internal/config"
	"stoa/matrix/mxerr"
)

// version is set by the Makefile through the linker.
var version string

// Version is the version of the build.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return info.Main.Version
}

// terminal has the input, output and environment of a command.
type terminal struct {
	environ []string
	in      io.Reader
	out     io.Writer
	err     io.Writer
	config  string // --config
}

// Main runs a command line and returns the exit status: 0, or 1 after an error, which it
// prints to stderr.
func Main(args, environ []string, in io.Reader, out, stderr io.Writer) int {
	t := &terminal{environ: environ, in: in, out: out, err: stderr}
	root := t.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(stderr)
	if err := root.ExecuteContext(context.Background()); err != nil {
		fmt.Fprintf(stderr, "stoa: %s\n", sentence(err))
		return 1
	}
	return 0
}

// Commands returns the tree of all commands, for tests and documentation. Main runs a
// tree of its own.
func Commands() *cobra.Command { return (&terminal{}).root() }

// sentence is an error as a sentence for people.
func sentence(err error) string {
	var known *mxerr.Error
	if errors.As(err, &known) && known.Message != "" {
		return known.Message
	}
	return err.Error()
}

func (t *terminal) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "stoa",
		Short: "A Matrix homeserver in one program",
		Long: "Stoa is a Matrix homeserver in one program. 'stoa serve' starts it and needs no settings.\n" +
			"Settings come from stoa.yaml and from STOA_* environment variables.",
		Example:       "  stoa serve\n  stoa user create --admin alice",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVar(&t.config, "config", "", "settings file (default "+config.DefaultFile+" if it exists)")
	root.AddCommand(
		t.serveCommand(),
		t.userCommand(),
		t.registrationTokenCommand(),
		t.doctorCommand(),
		t.clusterCommand(),
		t.jobsCommand(),
		t.mailCommand(),
		t.mediaCommand(),
		searchCommand(t),
		reportCommand(t),
		noticeCommand(t),
		t.versionCommand(),
	)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; '%s --help' shows the usage", err, c.CommandPath())
	})
	return root
}

// group makes a command with subcommands only.
func group(c *cobra.Command) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("there is no command '%s %s'; '%[1]s --help' lists them", c.CommandPath(), args[0])
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return c
}

// oneArgument requires exactly one argument and names it in the error.
func oneArgument(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("give %s and nothing else: %s", what, strings.TrimSpace(c.Example))
		}
		return nil
	}
}

func (t *terminal) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program",
		Example: "  stoa version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(t.out, "stoa %s (%s %s/%s)\n", Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// settings loads the settings and prints the warnings to stderr.
func (t *terminal) settings() (*config.Config, error) {
	cfg, warnings, err := config.Load(t.config, t.environ)
	for _, w := range warnings {
		fmt.Fprintln(t.err, "stoa: warning:", w)
	}
	if err != nil {
		return nil, fmt.Errorf("the settings are wrong:\n%w", err)
	}
	return cfg, nil
}

// again is the command line for another command with the same data.
func (t *terminal) again(command string) string {
	words := []string{"stoa"}
	if len(os.Args) > 0 && os.Args[0] != "" {
		words[0] = os.Args[0]
	}
	for _, entry := range t.environ {
		if value, ok := strings.CutPrefix(entry, "STOA_DATA_DIR="); ok {
			words = append([]string{"STOA_DATA_DIR=" + quoted(value)}, words...)
		}
	}
	if t.config != "" {
		words = append(words, "--config", quoted(t.config))
	}
	return strings.Join(append(words, command), " ")
}

// quoted quotes a word for a shell.
func quoted(word string) string {
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./_-") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
