package dispatcher_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/dispatcher"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// lanes is a configuration that a test may change.
type lanes struct {
	mu    sync.Mutex
	lanes map[uuid.UUID]*tenant.Lane
}

func (l *lanes) lane(id uuid.UUID) *tenant.Lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lanes[id]
}

func (l *lanes) set(lane tenant.Lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lanes[lane.ID] = &lane
}

// policy gives the lane of e a policy, and two nodes on one database that keep to it.
func policy(t *testing.T, e *outbox.Entry, p tenant.Policy, do func(ctx context.Context, e *outbox.Entry) *fault.Fault) (a, b *bundle, l *lanes) {
	l = &lanes{lanes: map[uuid.UUID]*tenant.Lane{}}
	l.set(laneOf(e, p))
	url := coretest.URL(t)
	with := func(c *dispatcher.Config) { c.Lane = l.lane }
	return setup(t, url, do, with), setup(t, url, do, with), l
}

func laneOf(e *outbox.Entry, p tenant.Policy) tenant.Lane {
	return tenant.Lane{ID: e.Lane, App: e.App, Name: "lane", Script: &tenant.Script{ID: e.Target, App: e.App}, Policy: p}
}

// sibling is another entry of the same lane.
func sibling(of *outbox.Entry) *outbox.Entry {
	e := entry()
	e.App, e.Lane, e.Target = of.App, of.Lane, of.Target
	return e
}

func appendAll(t *testing.T, b *bundle, entries ...*outbox.Entry) {
	t.Helper()
	for _, e := range entries {
		if err := b.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

// drained waits until no entry is left.
func drained(t *testing.T, b *bundle) {
	t.Helper()
	coretest.Eventually(t, "the outbox is empty", func() bool { return left(t, b.pool) == 0 })
}

// An ordering key lets its entries through one after the other, in the order of their acceptance, over nodes and retries.
func TestOrderingKey(t *testing.T) {
	t.Parallel()
	first := entry()
	var mu sync.Mutex
	var order []uuid.UUID
	running := 0
	a, b, _ := policy(t, first, tenant.Policy{}, func(_ context.Context, e *outbox.Entry) *fault.Fault {
		mu.Lock()
		defer mu.Unlock()
		if running++; running > 1 {
			t.Error("two of one key run at one time")
		}
		defer func() { running-- }()
		if e.Attempt == 1 && len(order)%3 == 0 {
			return fault.New(fault.ScriptError, fault.Script, "not yet")
		}
		order = append(order, e.ID)
		return nil
	})
	var want []uuid.UUID
	for i := range 20 {
		e := sibling(first)
		e.Gate, e.GateLimit, e.Backoff = outbox.OrderGate("k"), 1, &retry.Policy{Kind: retry.Constant, Base: retry.Duration(time.Millisecond)}
		want = append(want, e.ID)
		appendAll(t, []*bundle{a, b}[i%2], e)
	}
	drained(t, a)
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(order, want) {
		t.Errorf("ran in the order %v, want %v", order, want)
	}
}

// A concurrency key bounds its runs over all nodes, and leaves other keys alone.
func TestConcurrencyKey(t *testing.T) {
	t.Parallel()
	first := entry()
	var mu sync.Mutex
	running, most := map[string]int{}, map[string]int{}
	full := make(chan struct{})
	a, b, _ := policy(t, first, tenant.Policy{}, func(_ context.Context, e *outbox.Entry) *fault.Fault {
		mu.Lock()
		running[e.Gate]++
		most[e.Gate] = max(most[e.Gate], running[e.Gate])
		if running["x"] == 2 && running["y"] == 2 {
			select {
			case <-full:
			default:
				close(full)
			}
		}
		mu.Unlock()
		<-full // both keys have all their places at one time
		mu.Lock()
		running[e.Gate]--
		mu.Unlock()
		return nil
	})
	for i := range 24 {
		e := sibling(first)
		e.Gate, e.GateLimit = []string{"x", "y"}[i%2], 2
		appendAll(t, []*bundle{a, b}[i/2%2], e)
	}
	drained(t, a)
	if most["x"] != 2 || most["y"] != 2 {
		t.Errorf("at most %v at one time", most)
	}
}

// A lane runs no more at one time than its policy says, and all of it in the end.
func TestLaneConcurrency(t *testing.T) {
	t.Parallel()
	first := entry()
	var mu sync.Mutex
	running, most := 0, 0
	do := func(context.Context, *outbox.Entry) *fault.Fault {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		mu.Lock()
		running--
		mu.Unlock()
		return nil
	}
	l := &lanes{lanes: map[uuid.UUID]*tenant.Lane{}}
	l.set(laneOf(first, tenant.Policy{Concurrency: 1}))
	a := setup(t, "", do, func(c *dispatcher.Config) { c.Lane = l.lane })
	for range 30 {
		appendAll(t, a, sibling(first))
	}
	drained(t, a)
	if most != 1 {
		t.Errorf("%d at one time", most)
	}
}

// A paused lane starts nothing until it is resumed; sync calls learn of it.
func TestPause(t *testing.T) {
	t.Parallel()
	first := entry()
	a, b, l := policy(t, first, tenant.Policy{}, nil)
	paused := laneOf(first, tenant.Policy{})
	paused.Paused = true
	l.set(paused)
	appendAll(t, a, first)
	call := sibling(first)
	call.ReplyTo = uuid.New()
	if err := a.Call(t.Context(), call); !errors.Is(err, dispatcher.ErrPaused) {
		t.Errorf("sync call: %v", err)
	}
	other := entry() // everybody else goes on
	appendAll(t, a, other)
	if e := <-a.runs.seen; e.ID != other.ID {
		t.Error("a paused lane started something")
	}
	l.set(laneOf(first, tenant.Policy{}))
	a.Wake()
	drained(t, b)
}

// What waits in memory for a slot when its script is paused does not start either: it is given back, uncharged, or refused.
func TestPauseBeforeTheSlot(t *testing.T) {
	t.Parallel()
	first := entry()
	hold := make(chan struct{})
	l := &lanes{lanes: map[uuid.UUID]*tenant.Lane{}}
	l.set(laneOf(first, tenant.Policy{}))
	a := setup(t, "", func(_ context.Context, e *outbox.Entry) *fault.Fault {
		if e.ID == first.ID {
			<-hold
		}
		return nil
	}, func(c *dispatcher.Config) { c.Lane, c.Slots = l.lane, 1 })
	second, call := sibling(first), sibling(first)
	appendAll(t, a, first)
	<-a.runs.seen
	appendAll(t, a, second)
	if second.State != outbox.Running {
		t.Fatalf("the second is not in memory: state %d", second.State)
	}
	call.ReplyTo = uuid.New()
	w := a.runs.inbox.Register(call.ReplyTo)
	defer w.Close()
	if err := a.Call(t.Context(), call); err != nil {
		t.Fatal(err)
	}
	paused := laneOf(first, tenant.Policy{})
	paused.Paused = true
	l.set(paused)
	close(hold)
	if part, err := w.Next(t.Context(), nil); err != nil || part.Fault == nil || part.Fault.Kind != fault.Unavailable {
		t.Errorf("the call: %+v, %v", part, err)
	}
	coretest.Eventually(t, "the second is given back", func() bool {
		var state, attempt int
		err := a.pool.QueryRow(t.Context(), `SELECT state, attempt FROM outbox WHERE id = $1`, second.ID).Scan(&state, &attempt)
		return err == nil && state == int(outbox.Ready) && attempt == 0
	})
	if len(a.runs.attempts(second.ID))+len(a.runs.attempts(call.ID)) > 0 {
		t.Error("a paused script was started")
	}
	l.set(laneOf(first, tenant.Policy{}))
	a.Wake()
	drained(t, a)
}

// However many lanes are held back, the walk over them ends, and what is due elsewhere is seen to.
func TestManyPausedLanes(t *testing.T) {
	t.Parallel()
	app := uuid.New()
	l := &lanes{lanes: map[uuid.UUID]*tenant.Lane{}}
	a := setup(t, "", nil, func(c *dispatcher.Config) { c.Lane = l.lane })
	var all sync.WaitGroup
	for range 600 {
		e := entry()
		e.App = app
		paused := laneOf(e, tenant.Policy{})
		paused.Paused = true
		l.set(paused)
		all.Go(func() {
			if err := a.Append(context.Background(), e); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	later := entry()
	later.Delay = 10 * time.Millisecond
	appendAll(t, a, later)
	if e := <-a.runs.seen; e.ID != later.ID {
		t.Error("one of a paused lane was started")
	}
}

// deaf is a NodeStore whose heartbeat tells nothing of what waits.
type deaf struct{ dispatcher.NodeStore }

func (n deaf) Pulse(ctx context.Context, epoch int64) (dispatcher.Pulse, error) {
	p, err := n.NodeStore.Pulse(ctx, epoch)
	p.Ready, p.Scheduled = false, false
	return p, err
}

// Each entry that is due later starts at its time, and not with the heartbeat after it.
func TestNextDue(t *testing.T) {
	t.Parallel()
	a := setup(t, "", nil, func(c *dispatcher.Config) { c.Nodes = deaf{c.Nodes} })
	for _, in := range []time.Duration{10, 200, 100} {
		e := entry()
		e.Delay = in * time.Millisecond
		appendAll(t, a, e)
	}
	drained(t, a)
}

// A rate lets no more start than its burst and what time has brought.
func TestRate(t *testing.T) {
	t.Parallel()
	for name, byKey := range map[string]bool{"lane": false, "key": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := entry()
			p := tenant.Policy{Rate: &tenant.Rate{Limit: 20, Burst: 2}}
			if byKey {
				p.RateKey = "{body.k}"
			}
			var mu sync.Mutex
			var starts []time.Time
			l := &lanes{lanes: map[uuid.UUID]*tenant.Lane{}}
			l.set(laneOf(first, p))
			a := setup(t, "", func(context.Context, *outbox.Entry) *fault.Fault {
				mu.Lock()
				defer mu.Unlock()
				starts = append(starts, time.Now())
				return nil
			}, func(c *dispatcher.Config) { c.Lane = l.lane })
			began := time.Now()
			for range 12 {
				e := sibling(first)
				if byKey {
					e.RateKey = "k"
				}
				appendAll(t, a, e)
			}
			drained(t, a)
			// Ten starts beyond the burst take half a second; a start may be late but never early.
			if took := starts[len(starts)-1].Sub(began); took < 490*time.Millisecond {
				t.Errorf("12 starts took %s", took)
			}
		})
	}
}

// Of events with one debounce key only the last runs; the others end as superseded.
func TestDebounce(t *testing.T) {
	t.Parallel()
	first := entry()
	a, b, _ := policy(t, first, tenant.Policy{}, nil)
	var all []*outbox.Entry
	for i := range 6 {
		e := sibling(first)
		e.Debounce, e.DebounceFor, e.DebounceMax = "k", time.Hour, time.Hour
		if i == 5 { // all of them have come
			e.DebounceFor = 100 * time.Millisecond
		}
		e.Delay = e.DebounceFor
		all = append(all, e)
		appendAll(t, []*bundle{a, b}[i%2], e)
	}
	drained(t, a)
	for i, e := range all {
		want := outbox.Cancelled
		if i == len(all)-1 {
			want = outbox.Succeeded
		}
		if got := outcomes(t, a.pool, e.ID); len(got) != 1 || got[0] != want {
			t.Errorf("entry %d: %v", i, got)
		}
	}
}

// What was debounced and failed is tried again beside a newer one that waits.
func TestDebouncedRetry(t *testing.T) {
	t.Parallel()
	first := entry()
	fail := make(chan struct{})
	a := setup(t, "", func(_ context.Context, e *outbox.Entry) *fault.Fault {
		if e.ID != first.ID || e.Attempt > 1 {
			return nil
		}
		<-fail
		return fault.New(fault.ScriptError, fault.Script, "not yet")
	})
	second := sibling(first)
	for _, e := range []*outbox.Entry{first, second} {
		e.Debounce, e.DebounceFor, e.DebounceMax = "k", 20*time.Millisecond, time.Minute
		e.Delay, e.Backoff = e.DebounceFor, &retry.Policy{Kind: retry.Table, Delays: []retry.Duration{retry.Duration(time.Second)}}
	}
	appendAll(t, a, first)
	<-a.runs.seen
	second.DebounceFor, second.Delay = 3*time.Second, 3*time.Second
	appendAll(t, a, second)
	close(fail)
	drained(t, a)
	if got := outcomes(t, a.pool, first.ID); !slices.Equal(got, []outbox.Outcome{outbox.Retried, outbox.Succeeded}) {
		t.Errorf("the first ended as %v", got)
	}
	if got := a.runs.attempts(first.ID); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("the first was started as %v", got)
	}
	if got := outcomes(t, a.pool, second.ID); !slices.Equal(got, []outbox.Outcome{outbox.Succeeded}) {
		t.Errorf("the second ended as %v", got)
	}
}

// A batch leaves when it is full, or when its window is over.
func TestBatch(t *testing.T) {
	t.Parallel()
	first := entry()
	l := &lanes{lanes: map[uuid.UUID]*tenant.Lane{}}
	l.set(laneOf(first, tenant.Policy{Batch: &tenant.Batch{Size: 4}}))
	a := setup(t, "", nil, func(c *dispatcher.Config) { c.Lane = l.lane })
	batched := func(window time.Duration) *outbox.Entry {
		e := sibling(first)
		e.BatchSize, e.BatchWindow = 4, window
		return e
	}
	for range 4 {
		appendAll(t, a, batched(time.Hour))
	}
	full := <-a.runs.seen
	rest := []*outbox.Entry{batched(100 * time.Millisecond), batched(100 * time.Millisecond)} // which come together, as in one window
	refused, err := postgres.NewKeyedStore(a.pool).Insert(t.Context(), full.Owner, rest, false)
	if err = errors.Join(append(refused, err)...); err != nil {
		t.Fatal(err)
	}
	a.Wake()
	drained(t, a)
	if !slices.Equal(a.runs.batches, []int{4, 2}) {
		t.Errorf("batches of %v", a.runs.batches)
	}
}

// Who cancels one event of a batch stops the run of all, and the others run again.
func TestCancelInABatch(t *testing.T) {
	t.Parallel()
	first := entry()
	l := &lanes{lanes: map[uuid.UUID]*tenant.Lane{}}
	l.set(laneOf(first, tenant.Policy{Batch: &tenant.Batch{Size: 3}}))
	var stopped atomic.Bool
	a := setup(t, "", func(ctx context.Context, _ *outbox.Entry) *fault.Fault {
		if stopped.Load() && ctx.Err() == nil {
			return nil
		}
		<-ctx.Done()
		stopped.Store(true)
		return fault.From(context.Cause(ctx))
	}, func(c *dispatcher.Config) { c.Lane = l.lane })
	entries := []*outbox.Entry{first, sibling(first), sibling(first)}
	for _, e := range entries {
		e.BatchSize, e.BatchWindow = 3, time.Minute
	}
	appendAll(t, a, entries...)
	<-a.runs.seen
	if _, err := a.pool.Exec(t.Context(), `UPDATE outbox SET cancelled_at = now() WHERE id = $1`, entries[1].ID); err != nil {
		t.Fatal(err)
	}
	drained(t, a)
	for i, e := range entries {
		want := []outbox.Outcome{outbox.Succeeded}
		if i == 1 {
			want[0] = outbox.Cancelled
		}
		if got := outcomes(t, a.pool, e.ID); len(got) == 0 || got[len(got)-1] != want[0] {
			t.Errorf("entry %d ended as %v, want %v", i, got, want)
		}
	}
}

// A request with an idempotency key is accepted once, whoever else asks; another request under the key is refused.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	first := entry()
	a, b, _ := policy(t, first, tenant.Policy{}, nil)
	ask := func(hash string) *outbox.Entry {
		e := sibling(first)
		e.Idempotency = &outbox.Idempotency{Scope: first.Lane, Key: "k", Hash: []byte(hash)}
		return e
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	accepted, as := 0, map[uuid.UUID]bool{}
	for i := range 20 {
		wait.Go(func() {
			e := ask("h")
			err := []*bundle{a, b}[i%2].Append(t.Context(), e)
			var dup *outbox.Duplicate
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				accepted++
				as[e.ID] = true
			case errors.As(err, &dup):
				as[dup.Entry] = true
			default:
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if accepted != 1 || len(as) != 1 {
		t.Errorf("accepted %d times, as %d entries", accepted, len(as))
	}
	if err := b.Append(t.Context(), ask("another")); !errors.Is(err, outbox.ErrKeyReused) {
		t.Errorf("another request: %v", err)
	}
	drained(t, a)
	if n := len(a.runs.starts) + len(b.runs.starts); n != 1 {
		t.Errorf("%d runs", n)
	}
}

// One first cause leads to no more events than its budget.
func TestBudget(t *testing.T) {
	t.Parallel()
	a := setup(t, "", nil)
	root := entry()
	if _, err := a.pool.Exec(t.Context(), `INSERT INTO roots (id, app, events) VALUES ($1, $2, $3)`, root.ID, root.App,
		outbox.MaxRootEvents-3); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for range 5 {
		e := sibling(root)
		e.RootID, e.Depth = root.ID, 1
		if err := a.Append(t.Context(), e); errors.Is(err, outbox.ErrBudget) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	drained(t, a)
	if refused != 2 || len(a.runs.starts) != 3 {
		t.Errorf("%d refused, %d ran", refused, len(a.runs.starts))
	}
}

// An entry that has not started in time does not start at all, and lets the next through its gate.
func TestExpiry(t *testing.T) {
	t.Parallel()
	first := entry()
	hold := make(chan struct{})
	a, _, _ := policy(t, first, tenant.Policy{}, func(_ context.Context, e *outbox.Entry) *fault.Fault {
		if e.ID == first.ID {
			<-hold
		}
		return nil
	})
	late, last := sibling(first), sibling(first)
	for _, e := range []*outbox.Entry{first, late, last} {
		e.Gate, e.GateLimit = outbox.OrderGate("k"), 1
	}
	late.ExpiresIn = 100 * time.Millisecond
	appendAll(t, a, first, late, last)
	coretest.Eventually(t, "the entry expires", func() bool {
		return slices.Equal(outcomes(t, a.pool, late.ID), []outbox.Outcome{outbox.Expired})
	})
	close(hold)
	drained(t, a)
}

// A running entry that somebody wants stopped ends as cancelled, on whichever node it runs.
func TestCancelRunning(t *testing.T) {
	t.Parallel()
	a := setup(t, "", func(ctx context.Context, _ *outbox.Entry) *fault.Fault {
		<-ctx.Done()
		return fault.From(context.Cause(ctx))
	})
	e := entry()
	appendAll(t, a, e)
	<-a.runs.seen
	if _, err := a.pool.Exec(t.Context(), `UPDATE outbox SET cancelled_at = now()`); err != nil {
		t.Fatal(err)
	}
	drained(t, a)
	if got := outcomes(t, a.pool, e.ID); !slices.Equal(got, []outbox.Outcome{outbox.Cancelled}) {
		t.Errorf("ended as %v", got)
	}
}

// An app with too much waiting is told so, others are not.
func TestBacklogLimit(t *testing.T) {
	t.Parallel()
	first := entry()
	l := &lanes{lanes: map[uuid.UUID]*tenant.Lane{}}
	paused := laneOf(first, tenant.Policy{})
	paused.Paused = true
	l.set(paused)
	a := setup(t, "", nil, func(c *dispatcher.Config) { c.Lane, c.MaxBacklog = l.lane, 10 })
	for range 10 {
		appendAll(t, a, sibling(first))
	}
	var over *outbox.Overloaded
	if err := a.Append(t.Context(), sibling(first)); !errors.As(err, &over) || over.RetryAfter == 0 {
		t.Errorf("the eleventh: %v", err)
	}
	appendAll(t, a, entry())
}

// A handler of a dead letter runs once. How it ends is said in the letter, which stays open where it failed.
func TestHandler(t *testing.T) {
	t.Parallel()
	fail := true
	a := setup(t, "", func(_ context.Context, e *outbox.Entry) *fault.Fault {
		if e.HandlerFor != uuid.Nil && !fail {
			return nil
		}
		return fault.New(fault.ScriptError, fault.Script, "no")
	})
	dead := entry()
	dead.MaxAttempts = 1
	appendAll(t, a, dead)
	drained(t, a)
	state := func() (resolution string, open bool) {
		err := a.pool.QueryRow(t.Context(), `SELECT coalesce(resolution, ''), resolved_at IS NULL FROM dead_letters WHERE id = $1`,
			dead.ID).Scan(&resolution, &open)
		if err != nil {
			t.Fatal(err)
		}
		return resolution, open
	}
	handle := func() *outbox.Entry {
		h := sibling(dead)
		h.HandlerFor, h.Kind = dead.ID, outbox.KindLetter
		appendAll(t, a, h)
		drained(t, a)
		return h
	}
	h := handle()
	if got := outcomes(t, a.pool, h.ID); !slices.Equal(got, []outbox.Outcome{outbox.HandlerFailed}) {
		t.Errorf("the handler ended as %v", got)
	}
	if r, open := state(); r != "handler_failed" || !open {
		t.Errorf("after a failure: %q, open %v", r, open)
	}
	fail = false
	handle()
	if r, open := state(); r != "handled_by_script" || open {
		t.Errorf("after a success: %q, open %v", r, open)
	}
}

// What a fenced node's scripts do to the outside waits until the lease is good again, and fails once it is lost.
func TestHold(t *testing.T) {
	t.Parallel()
	a := setup(t, "", nil)
	e := entry()
	appendAll(t, a, e)
	<-a.runs.seen
	if err := a.Hold(t.Context(), e.Owner); err != nil {
		t.Errorf("with a good lease: %v", err)
	}
	if err := a.Hold(t.Context(), e.Owner+1); err == nil {
		t.Error("another epoch may act")
	}
}
