// Package telemetry tells operators what a server does: its log, its metrics
// registry and the admin listener that serves metrics, health and profiles.
//
// It owns how a log line is written and where, and the handler behind
// STOA_ADMIN_LISTEN. It never decides what is worth a line or a metric: these
// stand beside the code that they are about. It never serves clients.
//
// The invariant that matters: nothing here can fill a disk. A log file is
// rotated at its size and four old ones are kept.
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

// keptLogs is how many rotated log files are kept beside the current one.
const keptLogs = 4

// NewLog makes the log that the settings ask for. Closing it closes the file;
// on standard error Close does nothing.
func NewLog(cfg *config.Config) (*slog.Logger, io.Closer, error) {
	var out io.WriteCloser = keepOpen{os.Stderr}
	if cfg.LogFile != "" {
		if err := os.MkdirAll(filepath.Dir(cfg.LogFile), 0o750); err != nil {
			return nil, nil, fmt.Errorf("make the folder of the log file: %w", err)
		}
		// lumberjack opens at the first line; a file that can't be written
		// must be told at start.
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

// keepOpen is a writer that Close leaves open.
type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }
