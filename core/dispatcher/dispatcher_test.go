package dispatcher_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/dispatcher"
	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

func TestMain(m *testing.M) { coretest.Main(m) }

// runs is a Runner that keeps count of what it started.
type runs struct {
	inbox *inbox.Inbox
	do    func(ctx context.Context, e *outbox.Entry) *fault.Fault

	mu     sync.Mutex
	starts map[uuid.UUID][]int // attempts
	seen   chan *outbox.Entry

	batches []int // sizes
}

func (r *runs) Run(ctx context.Context, e *outbox.Entry) execution.Result {
	r.mu.Lock()
	r.starts[e.ID] = append(r.starts[e.ID], e.Attempt)
	r.mu.Unlock()
	r.seen <- e
	res := execution.Result{Started: time.Now()}
	if r.do != nil {
		res.Fault = r.do(ctx, e)
	}
	if e.Sync() {
		reply, err := r.inbox.Reply(context.WithoutCancel(ctx), e.ReplyTo)
		if err != nil {
			res.Absent = true
			return res
		}
		_ = reply.Head(engine.Head{Status: 200})
		_ = reply.End(res.Fault)
	}
	return res
}

func (r *runs) RunBatch(ctx context.Context, entries []*outbox.Entry) []execution.Result {
	r.mu.Lock()
	r.batches = append(r.batches, len(entries))
	r.mu.Unlock()
	results := make([]execution.Result, len(entries))
	for i, e := range entries {
		results[i] = r.Run(ctx, e)
	}
	return results
}

func (r *runs) attempts(id uuid.UUID) []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]int(nil), r.starts[id]...)
}

type bundle struct {
	*dispatcher.Dispatcher
	runs *runs
	pool *pgxpool.Pool
	stop func(ctx context.Context)
}

type option func(*dispatcher.Config)

// setup starts a dispatcher with a name of its own on a fresh database, or on the one given.
func setup(t *testing.T, url string, do func(ctx context.Context, e *outbox.Entry) *fault.Fault, options ...option) *bundle {
	t.Helper()
	if url == "" {
		url = coretest.URL(t)
	}
	log := coretest.Logger(t)
	open := func(settings map[string]string) *pgxpool.Pool {
		p, err := postgres.Open(t.Context(), postgres.Config{URL: url, MaxConns: 4, Settings: settings}, log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p
	}
	general := open(map[string]string{"plan_cache_mode": "force_custom_plan"})
	nodes, err := postgres.NewNodeStore(url)
	if err != nil {
		t.Fatal(err)
	}
	in := &inbox.Inbox{}
	r := &runs{inbox: in, do: do, starts: map[uuid.UUID][]int{}, seen: make(chan *outbox.Entry, 10_000)}
	cfg := dispatcher.Config{
		Node:  dispatcher.Node{Name: uuid.NewString(), Kinds: []int16{1, 2, 3, 4, 5}},
		Nodes: nodes, Claims: postgres.NewOutboxStore(general),
		Durable: postgres.NewOutboxStore(open(nil)), Fast: postgres.NewOutboxStore(open(nil)),
		Keyed: postgres.NewKeyedStore(general), FastKeyed: postgres.NewKeyedStore(general), Lane: func(uuid.UUID) *tenant.Lane { return nil }, DeadLettered: func() {}, Judge: func(*outbox.Settlement) {}, Failed: func(*outbox.Settlement) {},
		Runner: r, Inbox: in, Alone: func() bool { return false }, Configured: func(int64) {}, Slots: 8, SyncWaiting: 16, Log: log,
	}
	for _, o := range options {
		o(&cfg)
	}
	d := dispatcher.New(cfg)
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop := func(ctx context.Context) { once.Do(func() { d.Stop(ctx) }) }
	t.Cleanup(func() { stop(context.Background()) })
	return &bundle{Dispatcher: d, runs: r, pool: general, stop: stop}
}

func entry() *outbox.Entry {
	id := uuid.Must(uuid.NewV7())
	script := uuid.New()
	return &outbox.Entry{
		ID: id, EventID: id, RootID: id, App: uuid.New(), Lane: script, Target: script, TargetKind: outbox.TargetScript,
		Kind: outbox.KindInvoke, AcceptedAt: time.Now(), Timeout: time.Minute, MaxAttempts: 5, Envelope: []byte("e"),
		Payload: []byte("p"),
	}
}

// left counts the rows of the outbox.
func left(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	var n int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM outbox`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func outcomes(t *testing.T, pool *pgxpool.Pool, id uuid.UUID) []outbox.Outcome {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT outcome FROM executions WHERE id = $1 ORDER BY attempt`, id)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []outbox.Outcome
	for rows.Next() {
		var o outbox.Outcome
		if err := rows.Scan(&o); err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

func TestCallIsAnsweredAndRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t, "", nil)
	e := entry()
	e.Kind, e.ReplyTo = outbox.KindHTTP, uuid.New()
	w := b.runs.inbox.Register(e.ReplyTo)
	defer w.Close()
	if err := b.Call(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	part, err := w.Next(t.Context(), nil)
	if err != nil || part.Head == nil || part.Head.Status != 200 || !part.End {
		t.Fatalf("answer %+v, %v", part, err)
	}
	coretest.Eventually(t, "the entry leaves the outbox", func() bool { return left(t, b.pool) == 0 })
	if got := outcomes(t, b.pool, e.ID); len(got) != 1 || got[0] != outbox.Succeeded {
		t.Fatalf("outcomes %v", got)
	}
}

func TestEveryEntryRunsOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, "", nil)
	const n = 1000
	var ids [n]uuid.UUID
	var all sync.WaitGroup
	app := uuid.New()
	for i := range n {
		e := entry()
		ids[i] = e.ID
		if i%3 > 0 {
			e.App = app
		}
		all.Go(func() {
			if err := b.Append(context.Background(), e); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for range n {
		<-b.runs.seen
	}
	coretest.Eventually(t, "the outbox is empty", func() bool { return left(t, b.pool) == 0 })
	for _, id := range ids {
		if got := b.runs.attempts(id); len(got) != 1 {
			t.Fatalf("entry %s was started as %v", id, got)
		}
	}
}

func TestRetriesThenDeadLetter(t *testing.T) {
	t.Parallel()
	b := setup(t, "", func(context.Context, *outbox.Entry) *fault.Fault {
		return fault.New(fault.ScriptError, fault.Script, "no\x00t today")
	})
	e := entry()
	e.MaxAttempts, e.Backoff = 3, &retry.Policy{Kind: retry.Constant, Base: retry.Duration(time.Millisecond)}
	if err := b.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		<-b.runs.seen
	}
	coretest.Eventually(t, "the outbox is empty", func() bool { return left(t, b.pool) == 0 })
	if got := b.runs.attempts(e.ID); len(got) != 3 || got[0] != 1 || got[1] != 2 || got[2] != 3 {
		t.Fatalf("started as %v", got)
	}
	if got := outcomes(t, b.pool, e.ID); len(got) != 3 || got[0] != outbox.Retried || got[2] != outbox.DeadLettered {
		t.Fatalf("outcomes %v", got)
	}
	var reason string
	var payload []byte
	err := b.pool.QueryRow(t.Context(), `SELECT reason, payload FROM dead_letters WHERE id = $1`, e.ID).Scan(&reason, &payload)
	if err != nil || reason != outbox.ReasonExhausted || string(payload) != "p" {
		t.Fatalf("dead letter %q with %q: %v", reason, payload, err)
	}
}

// refusing is a database that takes nothing of how a run ended.
type refusing struct{ dispatcher.Store }

func (s refusing) Settle(ctx context.Context, owner int64, batch []*outbox.Settlement) (int64, error) {
	for _, x := range batch {
		if !x.Lost && !x.Uncharged {
			return 0, &outbox.Rejected{Err: errors.New("refused")}
		}
	}
	return s.Store.Settle(ctx, owner, batch)
}

// What cannot be settled has had its attempts all the same.
func TestUnstorableEndsAfterItsAttempts(t *testing.T) {
	t.Parallel()
	b := setup(t, "", nil, func(c *dispatcher.Config) { c.Durable = refusing{c.Durable} })
	e := entry()
	e.MaxAttempts = 2
	if err := b.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	for attempt := 1; attempt <= e.MaxAttempts; attempt++ {
		if got := <-b.runs.seen; got.Attempt != attempt {
			t.Fatalf("ran as attempt %d, not %d", got.Attempt, attempt)
		}
	}
	coretest.Eventually(t, "the outbox is empty", func() bool { return left(t, b.pool) == 0 })
	if got := outcomes(t, b.pool, e.ID); len(got) != 1 || got[0] != outbox.DeadLettered {
		t.Fatalf("outcomes %v", got)
	}
}

// An entry whose node died runs again; a sync one does not.
func TestDeadOwnersAreSwept(t *testing.T) {
	t.Parallel()
	url := coretest.URL(t)
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url}, coretest.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	async, waiting := entry(), entry()
	async.State, waiting.State = outbox.Running, outbox.Running
	waiting.ReplyTo = uuid.New()
	if _, err := pool.Exec(t.Context(), `INSERT INTO nodes (epoch, name) VALUES (4711, 'dead')`); err != nil {
		t.Fatal(err)
	}
	if refused, err := postgres.NewOutboxStore(pool).Insert(t.Context(), 4711, []*outbox.Entry{async, waiting}, false); err != nil || refused != nil {
		t.Fatal(refused, err)
	}
	if _, err := pool.Exec(t.Context(), `DELETE FROM nodes`); err != nil {
		t.Fatal(err)
	}
	b := setup(t, url, nil)
	if e := <-b.runs.seen; e.ID != async.ID || e.Attempt != 2 || e.NodeLosses != 1 {
		t.Fatalf("ran %+v", e)
	}
	coretest.Eventually(t, "the outbox is empty", func() bool { return left(t, pool) == 0 })
	if got := outcomes(t, pool, waiting.ID); len(got) != 1 || got[0] != outbox.Abandoned {
		t.Fatalf("the sync entry ended as %v", got)
	}
}

// A node whose epoch is gone ends its runs, and what they return changes nothing; its new life runs the entry again.
func TestLostEpochIsFenced(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	b := setup(t, "", func(ctx context.Context, e *outbox.Entry) *fault.Fault {
		if e.Attempt == 1 {
			<-ctx.Done()
			ended <- context.Cause(ctx)
		}
		return nil
	})
	e := entry()
	if err := b.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	<-b.runs.seen
	if _, err := b.pool.Exec(t.Context(), `DELETE FROM nodes`); err != nil {
		t.Fatal(err)
	}
	var f *fault.Fault
	if err := <-ended; !errors.As(err, &f) || f.Kind != fault.Cancelled {
		t.Fatalf("the run was ended by %v", err)
	}
	if e := <-b.runs.seen; e.Attempt != 2 {
		t.Fatalf("ran again as attempt %d", e.Attempt)
	}
	coretest.Eventually(t, "the outbox is empty", func() bool { return left(t, b.pool) == 0 })
	if got := outcomes(t, b.pool, e.ID); len(got) != 1 || got[0] != outbox.Succeeded {
		t.Fatalf("outcomes %v", got)
	}
}

// What still runs when the drain ends is given back with its attempt.
func TestStopGivesBack(t *testing.T) {
	t.Parallel()
	b := setup(t, "", func(ctx context.Context, _ *outbox.Entry) *fault.Fault {
		<-ctx.Done()
		return fault.From(context.Cause(ctx))
	})
	e := entry()
	if err := b.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	<-b.runs.seen
	now, cancel := context.WithCancel(t.Context())
	cancel()
	b.stop(now)
	var state, attempt int
	err := b.pool.QueryRow(t.Context(), `SELECT state, attempt FROM outbox WHERE id = $1`, e.ID).Scan(&state, &attempt)
	if err != nil || state != int(outbox.Ready) || attempt != 0 {
		t.Fatalf("state %d, attempt %d: %v", state, attempt, err)
	}
	if err := b.Append(t.Context(), entry()); err == nil {
		t.Fatal("a stopped node took an entry in")
	}
}

// A sync call that finds every place taken is refused; one that has a place but gets no slot is told so, as the
// platform's doing, and its script never starts.
func TestBusy(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	b := setup(t, "", func(context.Context, *outbox.Entry) *fault.Fault { <-free; return nil },
		func(c *dispatcher.Config) { c.Slots, c.SyncWaiting = 1, 0 })
	var waiters []*inbox.Waiter
	for range 3 { // one runs, two wait in memory
		e := entry()
		e.ReplyTo = uuid.New()
		w := b.runs.inbox.Register(e.ReplyTo)
		defer w.Close()
		waiters = append(waiters, w)
		if err := b.Call(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	e := entry()
	e.ReplyTo = uuid.New()
	if err := b.Call(t.Context(), e); !errors.Is(err, dispatcher.ErrBusy) {
		t.Fatal(err)
	}
	refused := make(chan inbox.Part, len(waiters))
	for _, w := range waiters {
		go func() {
			if p, err := w.Next(t.Context(), nil); err == nil {
				refused <- p
			}
		}()
	}
	for range 2 {
		if p := <-refused; p.Fault == nil || p.Fault.Kind != fault.Unavailable || p.Fault.Origin != fault.Platform {
			t.Errorf("%+v", p)
		}
	}
	close(free)
	if p := <-refused; p.Fault != nil {
		t.Errorf("the one that ran: %+v", p.Fault)
	}
	coretest.Eventually(t, "the outbox is empty", func() bool { return left(t, b.pool) == 0 })
	if n := len(b.runs.seen); n != 1 {
		t.Errorf("%d were started", n)
	}
}

// One entry that the database cannot store fails; the 63 beside it run.
func TestOneBadEntryBesideGoodOnes(t *testing.T) {
	t.Parallel()
	b := setup(t, "", nil)
	var all sync.WaitGroup
	for i := range 64 {
		e := entry()
		e.RateKey = "key"
		if i == 20 {
			e.RateKey = "k\x00y"
		}
		all.Go(func() {
			err := b.Append(context.Background(), e)
			var rejected *outbox.Rejected
			if bad := i == 20; bad != errors.As(err, &rejected) {
				t.Errorf("entry %d: %v", i, err)
			}
		})
	}
	all.Wait()
	for range 63 {
		<-b.runs.seen
	}
	coretest.Eventually(t, "the outbox is empty", func() bool { return left(t, b.pool) == 0 })
}
