//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/postgres/embedded"
)

// target is one thing that wrk calls.
type target struct {
	name string
	url  string
	body string
	as   string // the bare server's answer that it gives
	pid  int    // of its server
}

// sample is one run of wrk on a target.
type sample struct {
	result
	usage usage
}

// throughput loads PiCloud and the bare server in turn, so that both see the same weather.
func (b *bench) throughput(ctx context.Context) (err error) {
	server, targets, stopAll, err := b.servers(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopAll()) }()
	targets = only(targets, "hello", "orders")
	for file, route := range map[string]string{"hello.go": "GET /hello", "orders.go": "POST /orders"} {
		if err := b.deploy(ctx, file, route); err != nil {
			return err
		}
	}
	targets = append(targets,
		target{name: "PiCloud, hello", url: "http://" + b.public + "/hello", as: "hello", pid: server},
		target{name: "PiCloud, orders", url: "http://" + b.public + "/orders", body: order, as: "orders", pid: server},
	)
	connections := []int{1, 16, 64}
	samples, err := b.compare(ctx, targets, connections)
	if err != nil {
		return err
	}
	return report(os.Stdout, targets, connections, samples)
}

// servers starts PiCloud, the bare server and the peers. It returns the process of the first, and what to call of the others.
func (b *bench) servers(ctx context.Context) (server int, targets []target, stopAll func() error, err error) {
	var stops []func() error
	stopAll = func() (err error) {
		for _, stop := range slices.Backward(stops) {
			err = errors.Join(err, stop())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stopAll())
		}
	}()
	ours, _, err := b.picloud(ctx, "serve", "http://"+b.admin+"/readyz")
	if err != nil {
		return 0, nil, stopAll, err
	}
	stops = append(stops, func() error { return stop(ours) })
	self, err := os.Executable()
	if err != nil {
		return 0, nil, stopAll, err
	}
	bare, err := startBare(ctx, b.log, self, b.bare)
	if err != nil {
		return 0, nil, stopAll, err
	}
	stops = append(stops, func() error { return stop(bare) })
	targets = []target{
		{name: "net/http, hello", url: "http://" + b.bare + "/hello", as: "hello", pid: bare.Process.Pid},
		{name: "net/http, orders", url: "http://" + b.bare + "/orders", body: order, as: "orders", pid: bare.Process.Pid},
	}
	if b.others != nil {
		theirs, stopPeers, err := b.others.serve(ctx)
		if err != nil {
			return 0, nil, stopAll, err
		}
		stops = append(stops, stopPeers)
		targets = append(targets, theirs...)
	}
	return ours.Process.Pid, targets, stopAll, nil
}

// compare calls each target in turn with each number of connections, again and again. What it returns is by the target's name
// and the number.
func (b *bench) compare(ctx context.Context, targets []target, connections []int) (map[string][]sample, error) {
	samples := map[string][]sample{}
	for round := range b.rounds + 1 {
		for _, t := range targets {
			for _, n := range connections {
				d := b.run
				if round == 0 {
					d = time.Second // to warm up; not counted
				}
				s, err := b.sample(ctx, t, n, d)
				if err != nil {
					return nil, err
				}
				if round > 0 {
					key := fmt.Sprint(t.name, n)
					samples[key] = append(samples[key], s)
				}
			}
		}
	}
	return samples, nil
}

func startBare(ctx context.Context, log *os.File, self, address string) (*exec.Cmd, error) {
	cmd, err := start(ctx, log, self, "bare", address)
	if err != nil {
		return nil, err
	}
	if err := answers(ctx, "http://"+address+"/hello"); err != nil {
		return nil, errors.Join(err, stop(cmd))
	}
	return cmd, nil
}

// settle is how long after the last answer PiCloud may still write records of it.
const settle = 300 * time.Millisecond

func (b *bench) sample(ctx context.Context, t target, n int, d time.Duration) (sample, error) {
	before, err := usageOf(t.pid)
	if err != nil {
		return sample{}, err
	}
	r, err := wrk(ctx, b.dir, t.url, t.body, n, d)
	if err != nil {
		return sample{}, err
	}
	if err := pause(ctx, settle); err != nil {
		return sample{}, err
	}
	after, err := usageOf(t.pid)
	return sample{r, after.since(before)}, err
}

func report(w io.Writer, targets []target, connections []int, samples map[string][]sample) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\t\n", args...) } // Flush has the error
	line("target\tconns\treq/s (2xx)\tmin-max\tfailed\tp50\tp99\tµs/req\thost\tengine\tpostgres\twrk\tof net/http")
	for _, t := range targets {
		for _, n := range connections {
			runs := samples[fmt.Sprint(t.name, n)]
			rate := median(runs, sample.rate)
			perRequest := func(of func(sample) time.Duration) string {
				return fmt.Sprintf("%.0f", median(runs, func(s sample) float64 {
					return float64(of(s).Microseconds()) / float64(max(1, s.Requests))
				}))
			}
			bare := samples[fmt.Sprint("net/http, "+t.as, n)]
			ratio := ""
			if len(bare) > 0 {
				ratio = fmt.Sprintf("%.3f", rate/median(bare, sample.rate))
			}
			failed := 0
			for _, s := range runs {
				failed += s.Failed
			}
			least, most := bounds(runs, sample.rate)
			line("%s\t%d\t%.0f\t%.0f-%.0f\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", t.name, n, rate, least, most, failed,
				micros(median(runs, func(s sample) float64 { return float64(s.P50) })),
				micros(median(runs, func(s sample) float64 { return float64(s.P99) })),
				perRequest(func(s sample) time.Duration { return s.usage.total() }),
				perRequest(func(s sample) time.Duration { return s.usage.host }),
				perRequest(func(s sample) time.Duration { return s.usage.engine }),
				perRequest(func(s sample) time.Duration { return s.usage.postgres }),
				perRequest(func(s sample) time.Duration { return s.cpu }), ratio)
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

func micros(us float64) string { return (time.Duration(us) * time.Microsecond).String() }

func median[T any](list []T, of func(T) float64) float64 {
	values := valuesOf(list, of)
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}

func bounds[T any](list []T, of func(T) float64) (least, most float64) {
	values := valuesOf(list, of)
	return values[0], values[len(values)-1]
}

// valuesOf returns a value of each item, sorted. There is at least one.
func valuesOf[T any](list []T, of func(T) float64) []float64 {
	values := make([]float64, len(list))
	for i, item := range list {
		values[i] = of(item)
	}
	slices.SortFunc(values, cmp.Compare[float64])
	return values
}

// startUp measures what a person waits for with a data folder that exists: from the command to the first answer of a
// script; and for the first answer of an app while the server runs.
func (b *bench) startUp(ctx context.Context) error {
	server, _, err := b.picloud(ctx, "serve", "http://"+b.admin+"/readyz")
	if err != nil {
		return err
	}
	if err := errors.Join(b.deploy(ctx, "hello.go", "GET /hello"), stop(server)); err != nil {
		return err
	}
	var took []time.Duration
	for range b.starts {
		server, d, err := b.picloud(ctx, "dev", "http://"+b.public+"/hello")
		if err != nil {
			return err
		}
		if err := stop(server); err != nil {
			return err
		}
		took = append(took, d)
	}
	seconds := time.Duration.Seconds
	least, most := bounds(took, seconds)
	fmt.Printf("start to the first answer of a script: median %.3f s (%.3f-%.3f, %d starts)\n",
		median(took, seconds), least, most, len(took))
	return b.coldStarts(ctx, goScripts)
}

// calm is how long after its start a server is not idle yet.
const calm = 10 * time.Second

// idleCost watches a server that nobody calls.
func (b *bench) idleCost(ctx context.Context) (err error) {
	server, _, err := b.picloud(ctx, "dev", "http://"+b.public+"/hello")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop(server)) }()
	if err := pause(ctx, calm); err != nil {
		return err
	}
	database, err := embedded.Start(ctx, embedded.Config{Dir: b.data()}) // adopts the one that runs
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.Stop(context.WithoutCancel(ctx))) }()
	conn, err := pgx.Connect(ctx, database.URL())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()

	seen, err := transactions(ctx, conn)
	if err != nil {
		return err
	}
	before, err := usageOf(server.Process.Pid)
	if err != nil {
		return err
	}
	if err := pause(ctx, b.idle); err != nil {
		return err
	}
	after, err := usageOf(server.Process.Pid)
	if err != nil {
		return err
	}
	now, err := transactions(ctx, conn)
	if err != nil {
		return err
	}
	used, percent := after.since(before), func(d time.Duration) float64 { return 100 * d.Seconds() / b.idle.Seconds() }
	fmt.Printf("idle for %s: %.2f transactions/s, CPU %.2f %% of a core (host %.2f, engine %.2f, postgres %.2f)\n",
		b.idle, float64(now-seen)/b.idle.Seconds(), percent(used.total()), percent(used.host), percent(used.engine),
		percent(used.postgres))
	return nil
}

const sqlTransactions = `SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()`

// transactions is how many the database has seen, those of this question apart.
func transactions(ctx context.Context, conn *pgx.Conn) (n int64, err error) {
	err = conn.QueryRow(ctx, sqlTransactions).Scan(&n)
	return n, err
}
