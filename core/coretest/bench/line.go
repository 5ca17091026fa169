//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/dispatcher"
	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/history"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
)

// line is the way of an event from Append to its record, as a node has it, but for the engine: the target is a function
// that does nothing, as the workers of the peers are.
type line struct {
	url    string
	data   string // folder of the server's files
	pools  *postgres.Pools
	own    *pgxpool.Pool // of producers with transactions of their own
	store  *postgres.OutboxStore
	inbox  *inbox.Inbox
	script *tenant.Script
	lanes  map[uuid.UUID]*tenant.Lane
	slots  int
	target *noop
	d      *dispatcher.Dispatcher
	before usage // at the beginning of a run
	judge  func(*outbox.Settlement)
	mu     sync.Mutex // of lanes
}

// noop counts its calls, and notes when an entry that asks for it was run.
type noop struct {
	calls atomic.Int64
	goal  atomic.Int64
	done  chan struct{} // closed at the goal
	ran   []time.Time   // by the number in the body
	takes time.Duration
	told  sync.Map // of func(), by number
}

// watch has f called when the entry of that number is run.
func (t *noop) watch(i int, f func()) { t.told.Store(i, f) }

// expect makes the target ready for n calls.
func (t *noop) expect(n int) {
	t.calls.Store(0)
	t.goal.Store(int64(n))
	t.done, t.ran = make(chan struct{}), make([]time.Time, n)
}

// Invoke does nothing.
func (t *noop) Invoke(_ context.Context, _ *tenant.Script, _ bool, r *engine.Request, out engine.Reply) error {
	i := int(binary.BigEndian.Uint32(r.Body))
	if i < len(t.ran) {
		t.ran[i] = time.Now()
	}
	if t.takes > 0 {
		if f, is := t.told.LoadAndDelete(i); is {
			f.(func())()
		}
		time.Sleep(t.takes)
	}
	if t.calls.Add(1) == t.goal.Load() {
		close(t.done)
	}
	return out.Head(engine.Head{Status: 200})
}

// Script is that of an app: the one of its lane.
func (l *line) Script(id uuid.UUID) *tenant.Script {
	if lane := l.lane(id); lane != nil {
		return lane.Script
	}
	return nil
}

func (l *line) lane(id uuid.UUID) *tenant.Lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lanes[id]
}

const (
	slots     = 500 // runs at one time
	producers = 16
)

func openLine(ctx context.Context, url string) (_ *line, err error) {
	l := &line{url: url, judge: history.New(0).Judge}
	log := hclog.NewNullLogger()
	if l.pools, err = postgres.OpenPools(ctx, url, log); err != nil {
		return nil, err
	}
	if l.own, err = postgres.Open(ctx, postgres.Config{URL: url, MaxConns: producers}, log); err != nil {
		l.pools.Close()
		return nil, err
	}
	// The limits are there to be checked, not to be met.
	policy := tenant.Policy{Concurrency: 10_000}
	l.script = &tenant.Script{
		ID: uuid.New(), App: uuid.New(), Name: "noop", Version: 1, Timeout: time.Minute, MaxAttempts: 5, Policy: policy,
	}
	l.slots, l.lanes = slots, map[uuid.UUID]*tenant.Lane{
		l.script.ID: {ID: l.script.ID, App: l.script.App, Name: "script noop", Script: l.script, Policy: policy},
	}
	l.store, l.inbox, l.target = postgres.NewOutboxStore(l.pools.General), &inbox.Inbox{}, &noop{}
	return l, nil
}

func (l *line) close() {
	l.own.Close()
	l.pools.Close()
}

func (l *line) start(ctx context.Context) error {
	nodes, err := postgres.NewNodeStore(l.url)
	if err != nil {
		return err
	}
	var kinds []int16
	for _, k := range outbox.Kinds {
		kinds = append(kinds, int16(k))
	}
	l.d = dispatcher.New(dispatcher.Config{
		Node: dispatcher.Node{Name: "bench", Kinds: kinds}, Nodes: nodes, Claims: l.store,
		Durable: postgres.NewOutboxStore(l.pools.Durable), Fast: postgres.NewOutboxStore(l.pools.Fast),
		Keyed:     postgres.NewKeyedStore(l.pools.Durable),
		FastKeyed: postgres.NewKeyedStore(l.pools.Fast),
		Runner:    execution.New(l.target, l, nil, l.inbox), Inbox: l.inbox,
		Lane:  l.lane,
		Alone: func() bool { return false }, Configured: func(int64) {}, DeadLettered: func() {}, Judge: l.judge,
		MaxBacklog: 10_000_000, MaxBytes: 64 << 30,
		Slots: l.slots, SyncWaiting: 1024, Log: hclog.NewNullLogger(),
	})
	return l.d.Start(ctx)
}

// abandon ends the node, whatever waits.
func (l *line) abandon() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l.d.Stop(ctx)
}

// stop lets everything end and be recorded.
func (l *line) stop() { l.d.Stop(context.Background()) }

var envelope = func() []byte {
	env := event.Envelope{ID: uuid.NewString(), Type: "bench", Source: "bench", ContentType: "application/json", Time: time.Now()}
	encoded, err := env.Marshal()
	if err != nil {
		panic(err) // a constant
	}
	return encoded
}()

// entry is the i-th of a run, with a payload as large as the peers' jobs have.
func (l *line) entry(i int) *outbox.Entry {
	id := uuid.Must(uuid.NewV7())
	body := make([]byte, 105)
	binary.BigEndian.PutUint32(body, uint32(i))
	return &outbox.Entry{
		ID: id, EventID: id, RootID: id, App: l.script.App, Lane: l.script.ID, Target: l.script.ID, TargetKind: outbox.TargetScript,
		Kind: outbox.KindInvoke, AcceptedAt: time.Now(), Timeout: time.Minute, MaxAttempts: 5, Envelope: envelope, Payload: body,
	}
}

// fill writes n entries that are ready, before there is a node to run them.
func (l *line) fill(ctx context.Context, n int, app func(i int) (app, lane uuid.UUID)) error {
	var epoch int64
	err := l.pools.General.QueryRow(ctx, `INSERT INTO nodes (name, kinds) VALUES ('filler', '{}') RETURNING epoch`).Scan(&epoch)
	if err != nil {
		return err
	}
	batch := make([]*outbox.Entry, 0, 500)
	for i := range n {
		e := l.entry(i)
		if app != nil {
			e.App, e.Lane = app(i)
			e.Target = e.Lane
		}
		e.State = outbox.Ready
		if batch = append(batch, e); len(batch) == cap(batch) || i == n-1 {
			if _, err := l.store.Insert(ctx, epoch, batch, false); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	for _, sql := range []string{`DELETE FROM nodes WHERE epoch = ` + fmt.Sprint(epoch), `VACUUM ANALYZE outbox`, `CHECKPOINT`} {
		conn, err := l.pools.General.Acquire(ctx)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, `SET statement_timeout = 0`)
		if err == nil {
			_, err = conn.Exec(ctx, sql)
		}
		_, reset := conn.Exec(ctx, `RESET statement_timeout`)
		conn.Release()
		if err = errors.Join(err, reset); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// hangUp closes the connections. They are opened again when they are needed.
func (l *line) hangUp() {
	for _, pool := range []*pgxpool.Pool{l.own, l.pools.General, l.pools.Durable, l.pools.Fast} {
		pool.Reset()
	}
}

// reset empties what a run left behind.
func (l *line) reset(ctx context.Context) error {
	_, err := l.pools.General.Exec(ctx, `TRUNCATE outbox, executions, execution_bodies`)
	return err
}

// together runs f in n goroutines and returns the first error.
func together(n int, f func() error) error {
	errs := make(chan error, n)
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if err := f(); err != nil {
				errs <- err
			}
		})
	}
	all.Wait()
	close(errs)
	return <-errs
}
