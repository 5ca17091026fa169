//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/postgres/embedded"
)

// While it lasts, a soak has events accepted at this pace beside the calls, so that the table of what is durable turns
// over, too.
const beside = 200 // a second

// soak puts a steady load on the platform for a long while, and shows for every minute how fast it was and what the
// database holds: calls at the pace of -rate, or as many as 64 connections can make.
func (b *bench) soak(ctx context.Context) (err error) {
	server, _, err := b.picloud(ctx, "serve", "http://"+b.admin+"/readyz")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop(server)) }()
	if err := b.deploy(ctx, "hello.go", "GET /hello"); err != nil {
		return err
	}
	if err := b.deploy(ctx, "orders.go", "POST /orders", "--async"); err != nil {
		return err
	}
	url := os.Getenv("PICLOUD_DATABASE_URL")
	if url == "" {
		database, err := embedded.Start(ctx, embedded.Config{Dir: b.data()}) // adopts the one that runs
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, database.Stop(context.WithoutCancel(ctx))) }()
		url = database.URL()
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()

	ctx, cancel := context.WithCancel(ctx)
	accepted := pace(ctx, beside, "http://"+b.public+"/orders", order)
	fmt.Printf("%6s %8s %7s %10s %10s %10s %7s %8s %10s %9s %10s %12s %10s\n", "minute", "calls/s", "failed", "p50", "p99", "events/s",
		"failed", "waiting", "outbox MB", "dead rows", "history MB", "by its count", "left out")
	var first, last float64
	for minute := 1; err == nil && minute <= int(b.spell.Minutes()); minute++ {
		var r result
		if r, err = b.minute(ctx); err != nil {
			break
		}
		events := accepted.take()
		var s state
		if s, err = stateOf(ctx, conn); err != nil {
			break
		}
		if last = r.rate(); minute == 1 {
			first = last
		}
		fmt.Printf("%6d %8.0f %7d %10s %10s %10.0f %7d %8d %10.1f %9d %10.1f %12.1f %10d\n", minute, r.rate(), r.Failed,
			micros(float64(r.P50)), micros(float64(r.P99)), events.rate(), events.Failed, s.waiting, megabytes(s.outbox), s.dead,
			megabytes(s.history), megabytes(s.counted), s.left)
	}
	cancel()
	accepted.wait()
	if err == nil {
		fmt.Printf("\nlast minute to first: %.2f\n", last/first)
	}
	return err
}

func megabytes(n int64) float64 { return float64(n) / (1 << 20) }

// minute makes calls for a minute.
func (b *bench) minute(ctx context.Context) (result, error) {
	url := "http://" + b.public + "/hello"
	if b.rate == 0 {
		return wrk(ctx, b.dir, url, "", 64, time.Minute)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	calls := pace(ctx, b.rate, url, "")
	calls.wait()
	return calls.take(), nil
}

// state is what the database holds.
type state struct {
	waiting, dead   int64
	outbox, history int64 // bytes on disk, with indexes
	counted, left   int64 // bytes of the history as the platform counts them, and records that it left out
}

const sqlState = `
SELECT (SELECT count(*) FROM outbox), (SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'outbox'),
    pg_total_relation_size('outbox'),
    (SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits
     WHERE inhparent IN ('executions'::regclass, 'execution_bodies'::regclass)),
    (SELECT coalesce(sum(bytes), 0)::bigint FROM history_usage), (SELECT coalesce(sum(left_out), 0)::bigint FROM history_usage)`

func stateOf(ctx context.Context, conn *pgx.Conn) (s state, err error) {
	err = conn.QueryRow(ctx, sqlState).Scan(&s.waiting, &s.dead, &s.outbox, &s.history, &s.counted, &s.left)
	return s, err
}

// paced are requests at a steady pace, however long the answers take.
type paced struct {
	done  sync.WaitGroup
	good  atomic.Int64
	bad   atomic.Int64
	mu    sync.Mutex
	since time.Time
	waits []time.Duration
}

// pacers share a pace: one request at a time each.
const pacers = 32

// pace makes rate requests a second until ctx ends: POST where there is a body.
func pace(ctx context.Context, rate int, url, body string) *paced {
	p := &paced{since: time.Now()}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: pacers}, Timeout: 30 * time.Second}
	began, gap := time.Now(), time.Second/time.Duration(rate)
	var next atomic.Int64
	for range pacers {
		p.done.Go(func() {
			for {
				at := began.Add(time.Duration(next.Add(1)) * gap)
				if pause(ctx, time.Until(at)) != nil {
					return
				}
				p.request(client, url, body, at)
			}
		})
	}
	return p
}

// request is not cut when the time is up: what has begun counts.
func (p *paced) request(client *http.Client, url, body string, at time.Time) {
	var res *http.Response
	var err error
	if body == "" {
		res, err = client.Get(url)
	} else {
		res, err = client.Post(url, "application/json", strings.NewReader(body))
	}
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	if err != nil || res.StatusCode >= 300 {
		p.bad.Add(1)
		return
	}
	p.good.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waits = append(p.waits, time.Since(at))
}

func (p *paced) wait() { p.done.Wait() }

// take returns what came of the requests since it was last called.
func (p *paced) take() result {
	p.mu.Lock()
	defer p.mu.Unlock()
	good, bad := p.good.Swap(0), p.bad.Swap(0)
	p50, p99 := quantiles(p.waits)
	r := result{
		Requests: int(good + bad), Failed: int(bad), Micros: int(time.Since(p.since).Microseconds()),
		P50: int(p50.Microseconds()), P99: int(p99.Microseconds()),
	}
	p.waits, p.since = nil, time.Now()
	return r
}
