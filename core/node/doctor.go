package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/picloud/picloud/core/config"
	"github.com/picloud/picloud/core/pluginhost"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/postgres/embedded"
)

// Finding is what Examine has to say of one thing that a node needs or uses.
type Finding struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Needed bool   `json:"needed"` // a node does not start without
	Found  string `json:"found"`  // what there is, or what is wrong
	Stops  string `json:"stops,omitempty"`
	Help   string `json:"help,omitempty"` // how to have it, where it is not OK
}

// Examine looks at a machine for what a node with these settings needs, and leaves it as it is. plugins are the names of those
// that are tried.
func Examine(ctx context.Context, cfg config.Config, plugins []string) []Finding {
	all := []Finding{examineKernel(), examineDatabase(ctx, cfg), examineFolder(cfg.DataDir)}
	dir, err := examinedDir(cfg.DataDir)
	if err != nil {
		return append(all, Finding{Name: "plugins", Needed: true, Found: err.Error()})
	}
	host, err := pluginhost.New(pluginhost.Config{
		Dir: dir, Command: cfg.PluginCommand, Layers: cfg.PluginLayers, Log: hclog.NewNullLogger(),
	})
	if err != nil {
		_ = os.Remove(dir) // unless another process uses it
		return append(all, Finding{Name: "plugins", Needed: true, Found: err.Error()})
	}
	defer host.Close() // and removes the folder
	for _, name := range plugins {
		f, began := Finding{Name: name, Needed: true}, time.Now()
		if err := host.Probe(ctx, name); err != nil {
			f.Found = err.Error()
		} else {
			f.OK, f.Found = true, fmt.Sprintf("starts in %d ms", time.Since(began).Milliseconds())
		}
		all = append(all, f)
	}
	for _, l := range host.Isolation() {
		f := Finding{Name: l.Name, OK: l.Holds, Needed: cfg.RequireIsolation, Found: l.Why, Stops: l.Stops}
		if !l.Holds {
			f.Help = l.Needs
		}
		all = append(all, f)
	}
	return all
}

// examinedDir is where plugins are tried: where a node has them, or as long as there is no data folder, where they leave nothing.
func examinedDir(data string) (string, error) {
	if existing(data) == data {
		return runDir(data), nil
	}
	dir, err := os.MkdirTemp("", "picloud-doctor")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711) // as runDir has it
}

func examineKernel() Finding {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Finding{Name: "kernel", Found: err.Error()}
	}
	f := Finding{Name: "kernel", OK: true, Found: unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])}
	if !strings.HasPrefix(f.Found, "Linux ") {
		f.OK, f.Help = false, "run scripts that you do not trust on Linux: only there can they be isolated"
	}
	return f
}

// oldestPostgres is the first version with all that our statements use, in the server's count.
const oldestPostgres = 150_000

func examineDatabase(ctx context.Context, cfg config.Config) Finding {
	f := Finding{Name: "database", Needed: true}
	if cfg.DatabaseURL == "" {
		dir, major, err := embedded.Find(ctx, embedded.Config{Dir: cfg.DataDir, BinDir: cfg.PostgresBin})
		var missing *embedded.NotFoundError
		switch {
		case errors.As(err, &missing):
			f.Found, _, _ = strings.Cut(err.Error(), "\n")
			f.Help = "install the package postgresql, or give PICLOUD_DATABASE_URL"
		case err != nil:
			f.Found, f.Help = err.Error(), "see --data and --postgres-bin"
		default:
			f.OK, f.Found = true, fmt.Sprintf("PostgreSQL %d in %s", major, dir)
		}
		return f
	}
	f.Help = "see PICLOUD_DATABASE_URL"
	conn, err := pgx.Connect(ctx, cfg.DatabaseURL)
	if err != nil {
		f.Found = strings.ReplaceAll(err.Error(), "\n", " ")
		return f
	}
	defer func() { _ = conn.Close(ctx) }()
	var number, conns int
	var version string
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_version'),
    current_setting('max_connections')::int`).Scan(&number, &version, &conns)
	if err != nil {
		f.Found = err.Error()
		return f
	}
	f.Found = fmt.Sprintf("PostgreSQL %s at %s, with connections for %d nodes", version, conn.Config().Host, conns/postgres.NodeConns)
	switch {
	case number < oldestPostgres:
		f.Help = "use PostgreSQL 15 or later"
	case conns < postgres.NodeConns:
		f.Help = fmt.Sprintf("raise max_connections of the server, %d, to %d for each node", conns, postgres.NodeConns)
	default:
		f.OK, f.Help = true, ""
	}
	return f
}

// existing is the folder itself, or the nearest one above it that is there.
func existing(folder string) string {
	for {
		_, err := os.Stat(folder)
		if !errors.Is(err, fs.ErrNotExist) || folder == filepath.Dir(folder) {
			return folder
		}
		folder = filepath.Dir(folder)
	}
}

// leastRoom is how much a data folder should have left.
const leastRoom = 1 << 30

func examineFolder(folder string) Finding {
	f := Finding{Name: "data folder", Needed: true, Help: "choose another one with --data"}
	there := existing(folder)
	if err := unix.Access(there, unix.W_OK|unix.X_OK); err != nil {
		f.Found = fmt.Sprintf("%s cannot be written to: %v", there, err)
		return f
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(there, &disk); err != nil {
		f.Found = fmt.Sprintf("%s: %v", there, err)
		return f
	}
	free := uint64(disk.Bavail) * uint64(disk.Bsize) // of types that differ between systems
	f.Found = fmt.Sprintf("%s has %d MB left", folder, free>>20)
	if f.OK = free >= leastRoom; f.OK {
		f.Help = ""
	}
	return f
}
