//go:build linux

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// hooks answer as our scripts do.
//
//go:embed hooks.js.txt
var hooks []byte

// worker does, too, with its configuration beside it.
var (
	//go:embed worker.js
	worker []byte
	//go:embed worker.capnp
	workerConfig []byte
)

// peers are other queues and servers, built from a folder of programs that print what they measured. They run on the
// same Postgres server as our outbox, each in its turn.
type peers struct {
	folder string // of their sources
	dir    string // of what is built
	dsn    string
	log    *os.File
}

// rival is a peer's program for a load of ours.
type rival struct {
	name    string
	command []string // the program in dir, or node and its script in folder
}

// rivals are measured beside the load of that name, with the settings that suited them best on two cores.
var rivals = map[string][]rival{
	"drain of entries that wait": {
		{"River", []string{"riverbench", "-mode", "work", "-n", "100000"}},
		{"graphile-worker", []string{"node", "graphile.mjs", "work", "n=100000", "jobs=100", "size=1000", "cdelay=250"}},
	},
	"16 producers, own transactions": {
		{"River", []string{"riverbench", "-mode", "sustained", "-secs", "3", "-cooldown", "50ms", "-poll", "100ms"}},
		{"graphile-worker", []string{"node", "graphile.mjs", "sustained", "jobs=24", "size=500", "cdelay=0", "secs=3"}},
	},
	"200/s, call to run": {
		{"River", []string{"riverbench", "-mode", "latency", "-workers", "100", "-secs", "3"}},
		{"graphile-worker", []string{"node", "graphile.mjs", "latency", "jobs=24", "size=-1", "cdelay=-1", "secs=3"}},
	},
}

// buildPeers builds the programs.
func buildPeers(ctx context.Context, folder, dir string, log *os.File) (*peers, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	p := &peers{folder: folder, dir: dir, log: log}
	for _, build := range []struct{ in, target, to string }{
		{folder, "./cmd/riverbench", "riverbench"},
		{filepath.Join(folder, "pocketbase"), ".", "pocketbase"},
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, build.to), build.target)
		cmd.Dir = build.in
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w: %s", build.to, err, out)
		}
	}
	packages, err := os.ReadFile(filepath.Join(folder, "node", "package.json"))
	if err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{"node/package.json": packages, "hooks/main.pb.js": hooks, "worker.js": worker, "worker.capnp": workerConfig} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return nil, err
		}
	}
	install := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund")
	install.Dir = filepath.Join(dir, "node")
	if out, err := install.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("npm install: %w: %s", err, out)
	}
	return p, nil
}

// on gives the peers a database on a server, whose files are in data.
func (p *peers) on(ctx context.Context, server, data string) error {
	// Their CPU meters read the server's pid from here.
	if err := os.Symlink(data, filepath.Join(p.dir, "pgdata")); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, `CREATE DATABASE peers`); err != nil {
		return err
	}
	u, err := url.Parse(server)
	if err != nil {
		return err
	}
	u.Path = "/peers"
	p.dsn = u.String()
	return nil
}

// serve starts the peers that are servers, and returns what to call.
func (p *peers) serve(ctx context.Context) (targets []target, stopAll func() error, err error) {
	var running []*exec.Cmd
	stopAll = func() error {
		var errs []error
		for _, cmd := range running {
			errs = append(errs, stop(cmd))
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stopAll())
		}
	}()
	base, err := freeAddress()
	if err != nil {
		return nil, nil, err
	}
	workers, err := freeAddress()
	if err != nil {
		return nil, nil, err
	}
	for _, server := range []struct {
		answers string
		command []string
	}{
		{"http://" + base + "/hello", []string{
			"env", "HOOKS_DIR=" + filepath.Join(p.dir, "hooks"), filepath.Join(p.dir, "pocketbase"),
			"serve", "--dir", filepath.Join(p.dir, "pbdata"), "--http", base,
		}},
		{"http://" + workers + "/hello", []string{
			filepath.Join(p.dir, "node", "node_modules", ".bin", "workerd"),
			"serve", filepath.Join(p.dir, "worker.capnp"), "--socket-addr", "http=" + workers,
		}},
	} {
		cmd, err := start(ctx, p.log, server.command[0], server.command[1:]...)
		if err != nil {
			return nil, nil, err
		}
		running = append(running, cmd)
		if err := answers(ctx, server.answers); err != nil {
			return nil, nil, err
		}
	}
	baseServer, workerServer := running[0].Process.Pid, running[1].Process.Pid
	return []target{
		{name: "PocketBase, hello", url: "http://" + base + "/hello", as: "hello", pid: baseServer},
		{name: "PocketBase, orders", url: "http://" + base + "/orders", body: order, as: "orders", pid: baseServer},
		{name: "PocketBase, read", url: "http://" + base + "/values", as: "values", pid: baseServer},
		{name: "PocketBase, write", url: "http://" + base + "/values", body: write, as: "values", pid: baseServer},
		{name: "workerd, hello", url: "http://" + workers + "/hello", as: "hello", pid: workerServer},
		{name: "workerd, orders", url: "http://" + workers + "/orders", body: order, as: "orders", pid: workerServer},
	}, stopAll, nil
}

// run runs a rival once.
func (p *peers) run(ctx context.Context, r rival) (figure, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	name, dir := filepath.Join(p.dir, r.command[0]), p.dir
	if r.command[0] == "node" {
		name, dir = "node", filepath.Join(p.folder, "node")
	}
	cmd := exec.CommandContext(ctx, name, r.command[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "BP="+p.dir, "BENCH_DSN="+p.dsn, "NODE_DEPS="+filepath.Join(p.dir, "node"))
	cmd.Stderr = p.log
	out, err := cmd.Output()
	if err != nil {
		return figure{}, fmt.Errorf("%s: %w: %s", r.name, err, out)
	}
	f, err := parsePeer(string(out))
	if err != nil {
		return f, fmt.Errorf("%s: %w", r.name, err)
	}
	return f, nil
}

var (
	peerRate    = regexp.MustCompile(`(?:completed-in-db/s|e2e/s)=([\d.]+)`)
	peerLeft    = regexp.MustCompile(`left=(\d+)`)
	peerHost    = regexp.MustCompile(`client-cpu=([\d.]+)us`)
	peerServer  = regexp.MustCompile(`pg-cpu=([\d.]+)us`)
	peerCall    = regexp.MustCompile(`(?:insert-call->run|lat) n=\d+ p50=([\d.]+) .*?p99=([\d.]+)`)
	peerCommits = regexp.MustCompile(`committed->run n=\d+ p50=([\d.]+) .*?p99=([\d.]+)`)
)

// parsePeer reads the line that a peer's program prints.
func parsePeer(out string) (f figure, err error) {
	number := func(pattern *regexp.Regexp, group int) float64 {
		m := pattern.FindStringSubmatch(out)
		if m == nil {
			return 0
		}
		v, bad := strconv.ParseFloat(m[group], 64)
		if bad != nil {
			err = bad
		}
		return v
	}
	millis := func(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }
	f.rate, f.host, f.postgres = number(peerRate, 1), number(peerHost, 1), number(peerServer, 1)
	f.p50, f.p99 = millis(number(peerCall, 1)), millis(number(peerCall, 2))
	f.run50, f.run99 = millis(number(peerCommits, 1)), millis(number(peerCommits, 2))
	if left := number(peerLeft, 1); left > 0 {
		return f, fmt.Errorf("%.0f jobs were left", left)
	}
	if f.rate == 0 && f.p50 == 0 {
		return f, fmt.Errorf("it printed nothing that is known: %s", strings.TrimSpace(out))
	}
	return f, err
}
