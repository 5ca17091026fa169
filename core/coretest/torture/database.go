package torture

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// postmaster returns the process of the database server.
func (w *World) postmaster() (int, error) {
	text, err := os.ReadFile(filepath.Join(w.dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return strconv.Atoi(string(line))
}

// signalServer sends a signal to the server's first process. The supervisor starts it again.
func (w *World) signalServer(signal syscall.Signal) error {
	pid, err := w.postmaster()
	if err != nil {
		return err
	}
	return syscall.Kill(pid, signal)
}

// killBackend kills the process of a connection, after which the server restarts all.
func (w *World) killBackend(ctx context.Context) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var pid int
	err = conn.QueryRow(ctx, `SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
    ORDER BY random() LIMIT 1`).Scan(&pid)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// connect opens a connection that no fault of the network touches.
func (w *World) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	config, err := pgx.ParseConfig(w.server.URL())
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = watcher
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

// watcher is the application name of the connections of the torture itself.
const watcher = "torture"

// awaitServer waits until the server takes connections again and returns when it did.
func (w *World) awaitServer(ctx context.Context) (time.Time, error) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if conn, err := w.connect(ctx); err == nil {
			_ = conn.Close(ctx)
			return time.Now(), nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		}
	}
}
