package source_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/pluginhost"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/source"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/source/sourcetest/feed"
)

func id(n byte) uuid.UUID { return uuid.UUID{15: n} }

// snapshot is a configuration with one app, which has a source of a kind and a trigger that takes its events.
func snapshot(kind string, config []byte, version int, enabled bool) *tenant.Snapshot {
	app := &tenant.App{ID: id(1), Slug: "a"}
	app.Scripts = []tenant.Script{{ID: id(2), App: app.ID, Name: "s", Version: 1, Timeout: time.Minute, MaxAttempts: 1}}
	app.Triggers = []tenant.Trigger{{
		ID: id(3), App: app.ID, Name: "t", Kind: tenant.TriggerSource, Script: id(2), Enabled: true,
		Filter: tenant.TriggerFilter{Source: "f", Type: "feed.*"},
	}}
	app.Sources = []tenant.Source{{ID: id(4), App: app.ID, Name: "f", Kind: kind, Version: version, Config: config, Enabled: enabled}}
	return tenant.NewSnapshot(1, []*tenant.App{app})
}

// store writes the app and the source that snapshot has.
func store(t testing.TB, pool *pgxpool.Pool, kind string, config []byte) {
	t.Helper()
	for _, sql := range []string{
		`INSERT INTO apps (id, slug, name) VALUES ('00000000-0000-0000-0000-000000000001', 'a', 'a')`,
		fmt.Sprintf(`INSERT INTO sources (app, id, name, kind, config) VALUES ('00000000-0000-0000-0000-000000000001',
			'00000000-0000-0000-0000-000000000004', 'f', '%s', '%s')`, kind, config),
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

// node is one that runs sources. Its epoch is live until it is evicted.
type node struct {
	*source.Manager
	pool  *pgxpool.Pool
	epoch int64

	refuse atomic.Pointer[error] // what AppendCaused answers
	down   atomic.Bool           // it has lost touch with its database, and knows
	now    atomic.Pointer[tenant.Snapshot]
	lost   atomic.Int64 // batches that came too late
	taken  atomic.Int64

	mu        sync.Mutex
	processes []*pluginhost.Process
}

func (n *node) Ready() error {
	if n.down.Load() {
		return outbox.ErrFenced
	}
	return nil
}
func (n *node) Epoch() int64 { return n.epoch }

func (n *node) AppendCaused(_ context.Context, _ uuid.UUID, _ int, commit func(int64) ([]*outbox.Entry, error)) error {
	if refuse := n.refuse.Load(); refuse != nil {
		return *refuse
	}
	_, err := commit(n.epoch)
	switch {
	case errors.Is(err, source.ErrLost):
		n.lost.Add(1)
	case err == nil:
		n.taken.Add(1)
	}
	return err
}

type noSecrets struct{}

func (noSecrets) Get(context.Context, uuid.UUID, string) (json.RawMessage, error) {
	return nil, tenant.ErrNotFound
}

// join makes a node. stop ends it, without giving anything back.
func join(pool *pgxpool.Pool, log hclog.Logger, s *tenant.Snapshot, launched func(pid int)) (n *node, stop func(), err error) {
	n = &node{pool: pool}
	n.now.Store(s)
	if err := pool.QueryRow(context.Background(), `INSERT INTO nodes (name) VALUES ('n') RETURNING epoch`).Scan(&n.epoch); err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "pic") // a folder of a test is too long for a socket
	if err != nil {
		return nil, nil, err
	}
	host, err := pluginhost.New(pluginhost.Config{Dir: dir, Command: []string{os.Args[0], "child:plugin"}, Log: hclog.NewNullLogger()})
	if err != nil {
		return nil, nil, err
	}
	n.Manager = source.New(source.Config{
		Launch: func(ctx context.Context, name string) (source.Process, error) {
			p, err := host.Launch(ctx, name)
			if err != nil {
				return nil, err
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			n.processes = append(n.processes, p)
			launched(p.Pid())
			return p, nil
		},
		Store: postgres.NewSourceStore(pool), Outbox: n, Secrets: noSecrets{}, Snapshot: n.now.Load,
		Kinds: []string{"feed", "again", "failing", "unfit"}, Log: log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	return n, sync.OnceFunc(func() {
		cancel()
		<-done
		host.Close()
		_ = os.RemoveAll(dir) // sockets
	}), nil
}

func start(t testing.TB, pool *pgxpool.Pool, s *tenant.Snapshot) *node {
	t.Helper()
	n, stop, err := join(pool, coretest.Logger(t), s, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return n
}

// process is the last that was launched.
func (n *node) process() *pluginhost.Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.processes[len(n.processes)-1]
}

func (n *node) evict(t testing.TB) {
	t.Helper()
	if _, err := n.pool.Exec(t.Context(), `DELETE FROM nodes WHERE epoch = $1`, n.epoch); err != nil {
		t.Fatal(err)
	}
}

func number(t testing.TB, pool *pgxpool.Pool, sql string) (v int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// entries waits until there are n, and checks that they are of n different events.
func entries(t testing.TB, pool *pgxpool.Pool, n int) {
	t.Helper()
	coretest.Eventually(t, fmt.Sprintf("%d events are taken in", n), func() bool { return number(t, pool, `SELECT count(*) FROM outbox`) >= n })
	once(t, pool, n)
}

func once(t testing.TB, pool *pgxpool.Pool, n int) {
	t.Helper()
	if all, different := number(t, pool, `SELECT count(*) FROM outbox WHERE kind = 21`), number(t, pool, `SELECT count(DISTINCT payload) FROM outbox`); all != n || different != n {
		t.Errorf("%d entries of %d events, want %d", all, different, n)
	}
}

func texts(from, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("text %d", from+i))
	}
	return all
}

func state(t testing.TB, pool *pgxpool.Pool) tenant.SourceRecord {
	t.Helper()
	f, err := postgres.NewSourceStore(pool).Get(t.Context(), id(1), "f")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestTakesIn(t *testing.T) {
	t.Parallel()
	pool, list := coretest.DB(t), feed.NewServer(t)
	store(t, pool, "feed", list.Config())
	list.Happen(texts(0, 25)...)
	n := start(t, pool, snapshot("feed", list.Config(), 1, true))
	entries(t, pool, 25)
	if f := state(t, pool); f.State != tenant.SourceRunning || f.Node != "n" || f.Events != 25 || f.LastEventAt.IsZero() || f.Error != "" {
		t.Errorf("%+v", f)
	}

	// A plugin that is killed is started again, where it was.
	before := n.process()
	before.Kill()
	list.Happen(texts(25, 5)...)
	entries(t, pool, 30)

	// An event that no trigger takes moves the cursor.
	other := snapshot("feed", list.Config(), 1, true)
	other.Triggers(id(1), tenant.TriggerSource)[0].Filter.Type = "else"
	n.now.Store(other)
	list.Happen("nobody wants this")
	coretest.Eventually(t, "the cursor moves on", func() bool { return state(t, pool).Events == 31 })
	once(t, pool, 30)

	// What is disabled stops, and so does the process; what is enabled again goes on.
	n.now.Store(snapshot("feed", list.Config(), 1, false))
	n.Poke()
	coretest.Eventually(t, "the process ends", func() bool { return len(n.Manager.Running()) == 0 })
	list.Happen("later")
	n.now.Store(snapshot("feed", list.Config(), 1, true))
	n.Poke()
	entries(t, pool, 31)
}

// An app that has too much waiting does not lose what comes meanwhile.
func TestOverloaded(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"feed", "again"} {
		pool, list := coretest.DB(t), feed.NewServer(t)
		store(t, pool, kind, list.Config())
		n := start(t, pool, snapshot(kind, list.Config(), 1, true))
		var full error = &outbox.Overloaded{Message: "too much waits", RetryAfter: time.Millisecond}
		n.refuse.Store(&full)
		list.Happen(texts(0, 30)...)
		coretest.Eventually(t, "the source runs", func() bool { return state(t, pool).State == tenant.SourceRunning })
		n.refuse.Store(nil)
		entries(t, pool, 30)
	}
}

// A source that fails says so, and is tried again.
func TestFailing(t *testing.T) {
	t.Parallel()
	pool, list := coretest.DB(t), feed.NewServer(t)
	store(t, pool, "failing", list.Config())
	start(t, pool, snapshot("failing", list.Config(), 1, true))
	coretest.Eventually(t, "the failure is noted", func() bool {
		f := state(t, pool)
		return f.State == tenant.SourceFailed && f.Error == "the source panicked: no feed today" && !f.FailedAt.IsZero()
	})
	first := state(t, pool).FailedAt
	coretest.Eventually(t, "it fails again", func() bool { return state(t, pool).FailedAt.After(first) })
}

// A source that sends what nobody can take in is not told to try again: it has failed, and what is wrong is shown.
func TestUnfit(t *testing.T) {
	t.Parallel()
	pool, list := coretest.DB(t), feed.NewServer(t)
	store(t, pool, "unfit", list.Config())
	start(t, pool, snapshot("unfit", list.Config(), 1, true))
	coretest.Eventually(t, "the failure is noted", func() bool {
		f := state(t, pool)
		return f.State == tenant.SourceFailed && strings.HasPrefix(f.Error, "the source sends what is no mail: ")
	})
}

// Of two nodes, one runs a source. When that one is taken for dead the other does, and what the first has still to say is refused.
func TestLeaseMoves(t *testing.T) {
	t.Parallel()
	pool, list := coretest.DB(t), feed.NewServer(t)
	store(t, pool, "feed", list.Config())
	s := snapshot("feed", list.Config(), 1, true)
	one := start(t, pool, s)
	list.Happen(texts(0, 20)...)
	entries(t, pool, 20)
	two := start(t, pool, s)
	list.Happen(texts(100, 20)...)
	entries(t, pool, 40)
	if two.taken.Load() != 0 {
		t.Error("both nodes run it")
	}
	one.evict(t) // it does not know
	list.Happen(texts(200, 10)...)
	coretest.Eventually(t, "the former holder is refused", func() bool { return one.lost.Load() > 0 })
	entries(t, pool, 50)
	if two.taken.Load() == 0 || two.lost.Load() > 0 {
		t.Errorf("the other node has taken %d batches in, and was refused %d", two.taken.Load(), two.lost.Load())
	}
	two.down.Store(true) // it has lost touch, and knows
	coretest.Eventually(t, "a node that is in doubt runs nothing", func() bool { return len(two.Manager.Running()) == 0 })
}

// Whoever changes or deletes a source has it stop: nothing is committed from then on, also where the node does not know yet.
func TestChangesAreFences(t *testing.T) {
	t.Parallel()
	for what, sql := range map[string]string{
		"disabled": `UPDATE sources SET enabled = false`, "deleted": `DELETE FROM sources`, "given to another": `UPDATE sources SET claims = claims + 1`,
		"of a deleted app": `UPDATE apps SET deleted_at = now()`,
	} {
		pool, list := coretest.DB(t), feed.NewServer(t)
		store(t, pool, "feed", list.Config())
		n := start(t, pool, snapshot("feed", list.Config(), 1, true))
		list.Happen("one")
		entries(t, pool, 1)
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
		list.Happen("two")
		coretest.Eventually(t, "the next batch is refused: "+what, func() bool { return n.lost.Load() > 0 })
		if what != "given to another" {
			once(t, pool, 1)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	pool := coretest.DB(t)
	n := start(t, pool, tenant.NewSnapshot(1, nil))
	check := func(kind, config, field string) {
		t.Helper()
		err := n.Check(t.Context(), id(1), kind, json.RawMessage(config))
		invalid := (*tenant.Invalid)(nil)
		if errors.As(err, &invalid) != (field != "") || field == "" && err != nil || invalid != nil && invalid.Field != field {
			t.Errorf("%s %s: %v", kind, config, err)
		}
	}
	check("feed", `{"url": "http://127.0.0.1:1"}`, "")
	check("feed", `{"url": "x"}`, "config.url")
	check("feed", `{"url": {"secret": "NO"}}`, "config")
	check("feed", `[]`, "config")
	check("other", `{}`, "kind")
	if left := n.Manager.Running(); len(left) > 0 {
		t.Errorf("a process is left: %v", left)
	}
}
