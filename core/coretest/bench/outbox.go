//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/outbox"
)

// figure is what one run of a load came to. What does not apply is zero.
type figure struct {
	rate         float64 // a second
	p50, p99     time.Duration
	run50, run99 time.Duration // from the commit to the run
	host         float64       // microseconds of CPU for each
	postgres     float64
}

// loads are the runs of the outbox alone, in order.
var loads = []struct {
	name string
	run  func(*line, context.Context) (figure, int, error)
}{
	{"drain of entries that wait", (*line).drain},
	{"drain, nothing recorded", (*line).drainUnrecorded},
	{"16 producers, own transactions", (*line).transactions},
	{"16 producers waiting for Append", (*line).appends},
	{"200/s, call to run", (*line).paced},
	{"64 callers waiting for answers", func(l *line, ctx context.Context) (figure, int, error) { return l.callers(ctx, 64) }},
	{"512 callers waiting for answers", func(l *line, ctx context.Context) (figure, int, error) { return l.callers(ctx, 512) }},
}

// measured runs a load once on an empty database, and takes the CPU that it cost.
func (l *line) measured(ctx context.Context, run func(*line, context.Context) (figure, int, error)) (figure, error) {
	if err := l.reset(ctx); err != nil {
		return figure{}, err
	}
	f, n, err := run(l, ctx)
	if err != nil {
		return f, err
	}
	after, err := usageOf(os.Getpid())
	if err != nil {
		return f, err
	}
	used := after.since(l.before)
	f.host, f.postgres = perEach(used.host, n), perEach(used.postgres, n)
	return f, nil
}

func perEach(d time.Duration, n int) float64 { return float64(d.Microseconds()) / float64(max(1, n)) }

// begin notes the CPU used so far.
func (l *line) begin() (now time.Time, err error) {
	l.before, err = usageOf(os.Getpid())
	return time.Now(), err
}

const (
	drained = 100_000
	spell   = 3 * time.Second
)

// drain works off entries that wait, from the node's start to its end, when all is recorded.
func (l *line) drain(ctx context.Context) (figure, int, error) {
	if err := l.fill(ctx, drained, nil); err != nil {
		return figure{}, 0, err
	}
	return l.work(ctx, drained)
}

// work has a node end what waits, with so many records.
func (l *line) work(ctx context.Context, records int) (f figure, n int, err error) {
	l.target.expect(drained)
	began, err := l.begin()
	if err != nil {
		return f, 0, err
	}
	if err := l.start(ctx); err != nil {
		return f, 0, err
	}
	select {
	case <-l.target.done:
	case <-time.After(time.Minute):
		err = errors.New("not drained within a minute")
	}
	l.stop()
	f.rate = drained / time.Since(began).Seconds()
	return f, drained, errors.Join(err, l.recorded(ctx, records))
}

// drainUnrecorded is drain where the app has used up its share of the history.
func (l *line) drainUnrecorded(ctx context.Context) (figure, int, error) {
	defer func(all func(*outbox.Settlement)) { l.judge = all }(l.judge)
	l.judge = func(x *outbox.Settlement) { x.Unrecorded = true }
	if err := l.fill(ctx, drained, nil); err != nil {
		return figure{}, 0, err
	}
	return l.work(ctx, 0)
}

// recorded checks that everything has ended, with n records.
func (l *line) recorded(ctx context.Context, n int) error {
	var left, records int
	err := l.pools.General.QueryRow(ctx, `SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM executions)`).Scan(&left, &records)
	if err == nil && (left != 0 || records != n) {
		err = fmt.Errorf("%d entries are left, and %d have a record instead of %d", left, records, n)
	}
	return err
}

// produce has 16 producers append for a while, and waits until everything has run.
func (l *line) produce(ctx context.Context, appends func(*outbox.Entry) error) (f figure, n int, err error) {
	if err := l.start(ctx); err != nil {
		return f, 0, err
	}
	l.target.expect(1 << 20)
	began, err := l.begin()
	if err != nil {
		return f, 0, err
	}
	var next atomic.Int64
	called := make([]time.Time, 1<<20)
	err = together(producers, func() error {
		for time.Since(began) < spell {
			i := int(next.Add(1)) - 1
			called[i] = time.Now()
			if err := appends(l.entry(i)); err != nil {
				return err
			}
		}
		return nil
	})
	n = int(next.Load())
	limit := time.Now().Add(time.Minute)
	for err == nil && l.target.calls.Load() < int64(n) {
		if time.Now().After(limit) {
			err = errors.New("not everything has run within a minute")
		}
		time.Sleep(time.Millisecond)
	}
	took := time.Since(began)
	l.stop()
	var waits []time.Duration
	for i := range n {
		waits = append(waits, l.target.ran[i].Sub(called[i]))
	}
	f.rate = float64(n) / took.Seconds()
	f.p50, f.p99 = quantiles(waits)
	return f, n, errors.Join(err, l.recorded(ctx, n))
}

// transactions has each producer commit its entry in a transaction of its own, beside nothing else.
func (l *line) transactions(ctx context.Context) (figure, int, error) {
	return l.produce(ctx, func(e *outbox.Entry) error {
		return l.d.AppendWith(ctx, e, func(owner int64) error {
			return pgx.BeginFunc(ctx, l.own, func(tx pgx.Tx) error { return l.store.InsertIn(ctx, tx, owner, e) })
		})
	})
}

// appends has each producer wait until its entry is durable.
func (l *line) appends(ctx context.Context) (figure, int, error) {
	return l.produce(ctx, func(e *outbox.Entry) error { return l.d.Append(ctx, e) })
}

// paced appends 200 entries a second.
func (l *line) paced(ctx context.Context) (f figure, n int, err error) {
	if err := l.start(ctx); err != nil {
		return f, 0, err
	}
	const rate = 200
	n = int(rate * spell.Seconds())
	l.target.expect(n)
	began, err := l.begin()
	if err != nil {
		return f, 0, err
	}
	called, committed := make([]time.Time, n), make([]time.Time, n)
	errs := make(chan error, n)
	var all sync.WaitGroup
	for i := range n {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / rate)))
		all.Go(func() {
			called[i] = time.Now()
			errs <- l.d.Append(ctx, l.entry(i))
			committed[i] = time.Now()
		})
	}
	all.Wait()
	<-l.target.done
	l.stop()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	var whole, after []time.Duration
	for i := range n {
		whole = append(whole, l.target.ran[i].Sub(called[i]))
		after = append(after, max(0, l.target.ran[i].Sub(committed[i])))
	}
	f.p50, f.p99 = quantiles(whole)
	f.run50, f.run99 = quantiles(after)
	return f, n, errors.Join(err, l.recorded(ctx, n))
}

// callers has sync callers wait for the answers of their runs, one after the other.
func (l *line) callers(ctx context.Context, callers int) (f figure, n int, err error) {
	if err := l.start(ctx); err != nil {
		return f, 0, err
	}
	l.target.expect(1)
	began, err := l.begin()
	if err != nil {
		return f, 0, err
	}
	var mu sync.Mutex
	var waits []time.Duration
	late := make(chan time.Time) // never
	err = together(callers, func() error {
		var mine []time.Duration
		for time.Since(began) < spell {
			at := time.Now()
			e := l.entry(1)
			e.ReplyTo = uuid.New()
			waiter := l.inbox.Register(e.ReplyTo)
			err := l.d.Call(ctx, e)
			if err == nil {
				part, lost := waiter.Next(ctx, late)
				if err = lost; err == nil && part.Fault != nil {
					err = part.Fault
				}
			}
			waiter.Close()
			if err != nil {
				return err
			}
			mine = append(mine, time.Since(at))
		}
		mu.Lock()
		defer mu.Unlock()
		waits = append(waits, mine...)
		return nil
	})
	took := time.Since(began)
	l.stop()
	n = len(waits)
	f.rate = float64(n) / took.Seconds()
	f.p50, f.p99 = quantiles(waits)
	return f, n, errors.Join(err, l.recorded(ctx, n))
}

func quantiles(d []time.Duration) (p50, p99 time.Duration) {
	if len(d) == 0 {
		return 0, 0
	}
	slices.Sort(d)
	return d[len(d)/2], d[len(d)*99/100]
}
