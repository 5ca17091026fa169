//go:build linux

// Command bench measures PiCloud on this machine as a user meets it: the real program with its own Postgres, real
// requests from wrk, and beside it a bare net/http server with the same answers. Rates of one machine say little about
// another, and other work on it moves them: the ratio to the bare server and the CPU time for a request are what to
// compare. The part "engines" has the same handlers in every language that scripts are written in. It speaks to the loopback only and stops by itself.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"time"
)

// handlers are scripts that do the same in several languages, and what it takes to build and to serve them.
//
//go:embed hello.* orders.* warm.* values.* invoke.* calls.go.txt delay.go.txt flood.go.txt guest.go.txt
var handlers embed.FS

// order is the body of a realistic request.
const order = `{"lines":[{"item":"pear","count":3,"price":0.4},{"item":"desk","count":1,"price":249},` +
	`{"item":"lamp","count":2,"price":39.9},{"item":"chair","count":4,"price":89.5},{"item":"pen","count":20,"price":1.2}]}`

// plan is how long to measure.
type plan struct {
	program string
	rounds  int
	run     time.Duration
	starts  int
	idle    time.Duration
	peers   string
	only    string
	load    string
	profile string
	spell   time.Duration
	rate    int
}

func main() {
	// Children get a signal when the thread ends that started them, which is this one.
	runtime.LockOSThread()
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	if len(os.Args) == 3 && os.Args[1] == "bare" {
		if err := serveBare(os.Args[2]); err != nil {
			log.Fatal(err)
		}
		return
	}
	debug.SetGCPercent(400) // as that of a node
	var p plan
	flag.StringVar(&p.program, "picloud", "bin/picloud", "the program to measure")
	flag.IntVar(&p.rounds, "rounds", 3, "how often to measure each combination; the median counts")
	flag.DurationVar(&p.run, "run", 3*time.Second, "how long one run of wrk takes, in whole seconds")
	flag.IntVar(&p.starts, "starts", 5, "how many starts to measure")
	flag.DurationVar(&p.idle, "idle", time.Minute, "how long to watch an idle server")
	flag.StringVar(&p.peers, "peers", "", "a folder with programs of other queues and servers, to be measured beside ours")
	flag.StringVar(&p.only, "only", "", "only this part: outbox, fair, http, start, idle, engines, services or noisy, or soak, which takes long")
	flag.DurationVar(&p.spell, "soak", 30*time.Minute, "how long to soak, in whole minutes")
	flag.IntVar(&p.rate, "rate", 0, "calls a second while it soaks; 0: as many as there can be")
	flag.StringVar(&p.load, "load", "", "only the loads of the outbox with this in their name")
	flag.StringVar(&p.profile, "cpuprofile", "", "a file for the CPU profile of this program, which is the host in the parts without an engine")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	err := measure(ctx, p)
	cancel()
	if err != nil {
		log.Fatal(err)
	}
}

// bench is one run of this program.
type bench struct {
	plan
	dir    string   // temporary; everything is in it
	log    *os.File // what the processes print
	public string
	admin  string
	bare   string
	others *peers // nil: none
}

func measure(ctx context.Context, p plan) (err error) {
	b := &bench{plan: p}
	if b.dir, err = os.MkdirTemp("", "picloud-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := b.prepare(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_, _ = b.log.Seek(0, io.SeekStart)
			_, _ = io.Copy(os.Stderr, b.log) // why, perhaps
		}
		_ = b.log.Close()
	}()
	fmt.Printf("%s, %d CPUs, %s; load before: %s\n\n", cpuModel(), runtime.NumCPU(), runtime.Version(), loadAverage())
	if p.profile != "" {
		file, err := os.Create(p.profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer func() { pprof.StopCPUProfile(); err = errors.Join(err, file.Close()) }()
	}
	if p.peers != "" {
		if b.others, err = buildPeers(ctx, p.peers, filepath.Join(b.dir, "peers"), b.log); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{"outbox", b.outbox}, {"fair", b.fairness}, {"http", b.throughput}, {"start", b.startUp}, {"idle", b.idleCost}, {"engines", b.engines}, {"services", b.services}, {"noisy", b.noisy}, {"soak", b.soak}} {
		if b.only != part.name && (b.only != "" || part.name == "soak") {
			continue
		}
		if err := part.run(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("load after: %s\n", loadAverage())
	return nil
}

func (b *bench) prepare() (err error) {
	if err := os.Chmod(b.dir, 0o711); err != nil { // as root, Postgres runs as another user
		return err
	}
	if b.program, err = filepath.Abs(b.program); err != nil {
		return err
	}
	if b.log, err = os.Create(filepath.Join(b.dir, "log")); err != nil {
		return err
	}
	if err := unpack(b.dir); err != nil {
		return err
	}
	for _, address := range []*string{&b.public, &b.admin, &b.bare} {
		if *address, err = freeAddress(); err != nil {
			return err
		}
	}
	return nil
}

// unpack writes all handlers into a folder. Sources in Go have another suffix here, where they are no part of this program.
func unpack(dir string) error {
	entries, err := handlers.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := handlers.ReadFile(e.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, strings.TrimSuffix(e.Name(), ".txt")), data, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "load.lua"), []byte(load), 0o644)
}

func (b *bench) data() string { return filepath.Join(b.dir, "data") }

// picloud starts the platform, with more flags, and returns when url answers, with the time that took.
func (b *bench) picloud(ctx context.Context, command, url string, flags ...string) (*exec.Cmd, time.Duration, error) {
	began := time.Now()
	cmd, err := start(ctx, b.log, b.program, append([]string{
		command, "--data", b.data(), "--listen", b.public, "--admin-listen", b.admin, "--log-level", "warn",
	}, flags...)...)
	if err != nil {
		return nil, 0, err
	}
	if err := answers(ctx, url); err != nil {
		return nil, 0, errors.Join(err, stop(cmd))
	}
	took := time.Since(began)
	// A first start leaves the credentials when everything else is done.
	err = poll(ctx, func() bool {
		_, err := os.Stat(filepath.Join(b.data(), "credentials"))
		return err == nil
	})
	if err != nil {
		return nil, 0, errors.Join(err, stop(cmd))
	}
	return cmd, took, nil
}

// answers waits until a server answers a request well.
func answers(ctx context.Context, url string) error {
	err := poll(ctx, func() bool {
		res, err := http.Get(url)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode < 300
	})
	if err != nil {
		return fmt.Errorf("%s never answered: %w", url, err)
	}
	return nil
}

// poll waits until a condition holds, for a minute at most.
func poll(ctx context.Context, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for !holds() {
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *bench) deploy(ctx context.Context, file, route string, flags ...string) error {
	args := append([]string{"deploy", filepath.Join(b.dir, file), "--route", route, "--data", b.data()}, flags...)
	cmd := exec.CommandContext(ctx, b.program, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("deploy %s: %w: %s", file, err, out)
	}
	return nil
}

func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOARCH
}

func loadAverage() string {
	data, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(data))
	return strings.Join(fields[:min(3, len(fields))], " ")
}
