//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// What the apps are that share a node here: its slots are as many as a node has by default, and a run is a short script's.
const (
	shared     = 32
	shortRun   = time.Millisecond
	noisyQueue = 500_000
	quietApps  = 20
	quietEvery = 50 * time.Millisecond
	noisySpell = 10 * time.Second
)

// fairness measures what apps suffer from each other.
func (b *bench) fairness(ctx context.Context) error {
	return b.onServer(ctx, func(l *line) error {
		l.slots, l.target.takes = shared, shortRun
		for _, part := range []func(*line, context.Context) error{(*line).noisy, (*line).paused, (*line).million} {
			if err := l.reset(ctx); err != nil {
				return err
			}
			if err := part(l, ctx); err != nil {
				return err
			}
		}
		fmt.Println()
		return nil
	})
}

// another makes an app with a lane of its own.
func (l *line) another() *tenant.Lane {
	script := *l.script
	script.ID, script.App = uuid.New(), uuid.New()
	lane := &tenant.Lane{ID: script.ID, App: script.App, Name: "script noop", Script: &script, Policy: script.Policy}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lanes[lane.ID] = lane
	return lane
}

// to sends an entry to a lane.
func to(lane *tenant.Lane, e *outbox.Entry) *outbox.Entry {
	e.App, e.Lane, e.Target = lane.App, lane.ID, lane.ID
	return e
}

// noisy has one app with a backlog beside quiet ones.
func (l *line) noisy(ctx context.Context) error {
	if err := l.fill(ctx, 20*shared*int(time.Second/shortRun/10), nil); err != nil {
		return err
	}
	alone, err := l.rate(ctx, 2*time.Second, nil)
	if err != nil {
		return err
	}
	if err := l.reset(ctx); err != nil {
		return err
	}
	if err := l.fill(ctx, noisyQueue, nil); err != nil {
		return err
	}
	var offered, finished atomic.Int64
	var mu sync.Mutex
	var waits []time.Duration
	together, err := l.rate(ctx, noisySpell, func(ctx context.Context) {
		var all sync.WaitGroup
		for range quietApps {
			lane := l.another()
			all.Go(func() {
				tick := time.NewTicker(quietEvery)
				defer tick.Stop()
				for {
					select {
					case <-tick.C:
					case <-ctx.Done():
						return
					}
					i := int(offered.Add(1))
					called := time.Now()
					l.target.watch(i, func() {
						finished.Add(1)
						mu.Lock()
						waits = append(waits, time.Since(called))
						mu.Unlock()
					})
					if l.d.Append(ctx, to(lane, l.entry(i))) != nil {
						return
					}
				}
			})
		}
		all.Wait()
	})
	if err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	p50, p99 := quantiles(waits)
	fmt.Printf("%d quiet apps beside one with %d events that wait: call to run p50 %s, p99 %s; %d of %d ran; %.0f runs/s in all, %.2f of one app alone\n",
		quietApps, noisyQueue, p50.Round(10*time.Microsecond), p99.Round(10*time.Microsecond), finished.Load(), offered.Load(), together, together/alone)
	return nil
}

// rate runs the line for a while, beside what else does, and returns how many runs it did a second.
func (l *line) rate(ctx context.Context, d time.Duration, beside func(context.Context)) (float64, error) {
	l.target.expect(0)
	if err := l.start(ctx); err != nil {
		return 0, err
	}
	defer l.abandon()
	spell, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	began := time.Now()
	if beside != nil {
		beside(spell)
	}
	<-spell.Done()
	return float64(l.target.calls.Load()) / time.Since(began).Seconds(), nil
}

// paused has events that may run behind many that may not.
func (l *line) paused(ctx context.Context) error {
	const held, free = 200_000, 100
	stopped := l.another()
	stopped.Paused = true
	open := l.another()
	err := l.fill(ctx, held+free, func(i int) (app, lane uuid.UUID) {
		if i < held {
			return stopped.App, stopped.ID
		}
		return open.App, open.ID
	})
	if err != nil {
		return err
	}
	l.target.expect(free)
	began, err := l.begin()
	if err != nil {
		return err
	}
	if err := l.start(ctx); err != nil {
		return err
	}
	select {
	case <-l.target.done:
	case <-time.After(time.Minute):
		err = errors.New("what may run did not within a minute")
	}
	took := time.Since(began)
	after, failed := usageOf(os.Getpid())
	l.stop()
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	used := after.since(l.before)
	fmt.Printf("%d events behind %d of a paused app ran in %s, with %s of CPU in the host and %s in Postgres\n", free, held,
		took.Round(time.Millisecond), used.host, used.postgres)
	return nil
}

// million looks at claims from a large backlog.
func (l *line) million(ctx context.Context) error {
	const backlog, apps, claims, each = 1_000_000, 100, 200, 100
	var lanes []*tenant.Lane
	for range apps {
		lanes = append(lanes, l.another())
	}
	err := l.fill(ctx, backlog, func(i int) (app, lane uuid.UUID) { return lanes[i%apps].App, lanes[i%apps].ID })
	if err != nil {
		return err
	}
	var epoch int64
	if err := l.pools.General.QueryRow(ctx, `INSERT INTO nodes (name, kinds) VALUES ('claimer', '{}') RETURNING epoch`).Scan(&epoch); err != nil {
		return err
	}
	var walks, takes []time.Duration
	for range claims {
		began := time.Now()
		ready, err := l.store.Ready(ctx, outbox.LaneKey{}, 256)
		if err != nil {
			return err
		}
		walks = append(walks, time.Since(began))
		var quotas []outbox.Quota
		for _, k := range ready[:20] {
			quotas = append(quotas, outbox.Quota{LaneKey: k, Count: each / 20})
		}
		began = time.Now()
		got, err := l.store.Claim(ctx, epoch, quotas)
		if err != nil || len(got) != each {
			return fmt.Errorf("claimed %d: %w", len(got), err)
		}
		takes = append(takes, time.Since(began))
	}
	w50, w99 := quantiles(walks)
	t50, t99 := quantiles(takes)
	fmt.Printf("%d events of %d apps wait: list of them p50 %s, p99 %s; claim of %d p50 %s, p99 %s; the host has %d MB\n", backlog, apps,
		w50.Round(10*time.Microsecond), w99.Round(10*time.Microsecond), each, t50.Round(10*time.Microsecond), t99.Round(10*time.Microsecond), resident()>>20)
	return nil
}

// resident is the memory of this process.
func resident() int64 {
	data, _ := os.ReadFile("/proc/self/statm")
	var size, pages int64
	_, _ = fmt.Sscan(string(data), &size, &pages)
	return pages * int64(os.Getpagesize())
}
