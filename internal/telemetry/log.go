// Package telemetry provides a server's log, its metrics registry, and the admin listener
// for metrics, health and profiles.
//
// It owns the format and the destination of log lines, and the handler behind
// STOA_ADMIN_LISTEN. It never decides what is logged or measured: the code in question
// does. It never serves clients.
//
// The invariant: nothing here can fill a disk. A log file is rotated at its maximum size,
// and four old ones are kept.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"gopkg.in/natefinch/lumberjack.v2"

	"stoa/internal/config"
)

// keptLogs is the number of rotated log files that are kept beside the current one.
const keptLogs = 4

// NewLog opens the log that the settings describe. Close closes the file; for standard
// error it does nothing.
func NewLog(cfg *config.Config) (*slog.Logger, io.Closer, error) {
	var out io.WriteCloser = keepOpen{os.Stderr}
	if cfg.LogFile != "" {
		if err := os.MkdirAll(filepath.Dir(cfg.LogFile), 0o750); err != nil {
			return nil, nil, fmt.Errorf("make the folder of the log file: %w", err)
		}
		// lumberjack opens the file at the first line, but a file that can't be written
		// must be an error at the start.
		f, err := os.OpenFile(cfg.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, nil, fmt.Errorf("open the log file: %w", err)
		}
		if err := f.Close(); err != nil {
			return nil, nil, fmt.Errorf("open the log file: %w", err)
		}
		out = &lumberjack.Logger{
			Filename:   cfg.LogFile,
			MaxSize:    max(1, int(cfg.LogMaxSize>>20)), // MiB
			MaxBackups: keptLogs,
		}
	}
	opts := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == config.LogJSON {
		return slog.New(slog.NewJSONHandler(out, opts)), out, nil
	}
	return slog.New(slog.NewTextHandler(out, opts)), out, nil
}

// keepOpen is a writer without an effect of Close.
type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }
