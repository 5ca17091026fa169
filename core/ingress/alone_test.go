package ingress

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
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
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
)

// whole is everything from the listener to the database, with an engine that a test plays.
type whole struct {
	url  string
	stop func() // of the dispatcher
	pool *pgxpool.Pool

	told chan struct{}

	mu     sync.Mutex
	starts map[string]int // by execution
}

// Invoke counts a start and takes as long as the request's body says: "told" is until told is closed; where it is no duration, until it is
// ended.
func (w *whole) Invoke(ctx context.Context, _ *tenant.Script, _ bool, r *engine.Request, out engine.Reply) error {
	w.mu.Lock()
	w.starts[r.ExecutionID]++
	w.mu.Unlock()
	d, err := time.ParseDuration(string(r.Body))
	if err != nil {
		d = time.Hour
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	told := w.told
	if string(r.Body) != "told" {
		told = nil
	}
	select {
	case <-timer.C:
	case <-told:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := out.Head(engine.Head{Status: http.StatusCreated}); err != nil {
		return err
	}
	_, err = out.Write([]byte(r.ExecutionID + " took " + string(r.Body)))
	return err
}

func (w *whole) startsOf(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.starts[id]
}

func (w *whole) Script(id uuid.UUID) *tenant.Script { return wholeSnapshot.Script(id) }

const wholeWait = 30 * time.Millisecond

var wholeSnapshot = func() *tenant.Snapshot {
	app := &tenant.App{ID: uuid.New(), Slug: "a", Domains: []string{"127.0.0.1"}}
	script := tenant.Script{
		ID: uuid.New(), App: app.ID, Name: "s", Kind: tenant.KindEndpoint, Engine: "yaegi", Version: 1, Hash: "h",
		Timeout: time.Minute, MaxAttempts: 5,
	}
	app.Scripts = []tenant.Script{script}
	app.Routes = []tenant.Route{
		{ID: uuid.New(), App: app.ID, Script: script.ID, Method: "POST", Pattern: "/wait", Mode: tenant.ModeSync, Wait: wholeWait},
		{ID: uuid.New(), App: app.ID, Script: script.ID, Method: "POST", Pattern: "/stay", Mode: tenant.ModeSync},
	}
	return tenant.NewSnapshot(1, []*tenant.App{app})
}()

func startWhole(t *testing.T) *whole {
	t.Helper()
	url, log := coretest.URL(t), coretest.Logger(t)
	open := func() *pgxpool.Pool {
		p, err := postgres.Open(t.Context(), postgres.Config{URL: url, MaxConns: 4}, log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p
	}
	w := &whole{pool: open(), told: make(chan struct{}), starts: map[string]int{}}
	nodes, err := postgres.NewNodeStore(url)
	if err != nil {
		t.Fatal(err)
	}
	in := &inbox.Inbox{}
	store := postgres.NewOutboxStore(w.pool)
	d := dispatcher.New(dispatcher.Config{
		Node: dispatcher.Node{Name: "n", Kinds: []int16{1}}, Nodes: nodes, Claims: store,
		Durable: postgres.NewOutboxStore(open()), Fast: postgres.NewOutboxStore(open()), Keyed: postgres.NewKeyedStore(open()),
		Runner: execution.New(w, w, nil, in, nil, nil), Inbox: in, Lane: func(uuid.UUID) *tenant.Lane { return nil },
		Alone: func() bool { return false }, Configured: func(int64) {}, DeadLettered: func() {}, Judge: func(*outbox.Settlement) {}, Failed: func(*outbox.Settlement) {}, Slots: 8, SyncWaiting: 64, Log: log,
	})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		d.Stop(ctx)
	})
	handler := New(Config{
		Snapshot: func() *tenant.Snapshot { return wholeSnapshot }, Dispatcher: d, Inbox: in,
		Results: postgres.NewResultStore(w.pool), Secret: []byte("secret"), MaxBody: maxBody, Log: log,
	})
	server := httptest.NewServer(handler)
	w.url = server.URL
	t.Cleanup(func() {
		server.Close()
		http.DefaultClient.CloseIdleConnections()
		w.stop()
	})
	return w
}

// count returns a number from the database.
func (w *whole) count(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	if err := w.pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A caller that need not wait any longer gets a 202, and the answer of the one run later.
func TestWaitThenResult(t *testing.T) {
	t.Parallel()
	w := startWhole(t)
	res, body := with(t, "POST", w.url+"/wait", "told")
	id := res.Header.Get(ExecutionHeader)
	if res.StatusCode != http.StatusAccepted || res.Header.Get("Location") == "" {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	time.AfterFunc(300*time.Millisecond, func() { close(w.told) }) // while somebody waits
	res, body = with(t, "GET", w.url+res.Header.Get("Location")+"&wait=60s", "")
	if res.StatusCode != http.StatusCreated || body != id+" took told" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if n := w.startsOf(id); n != 1 {
		t.Errorf("started %d times", n)
	}
	if n := w.count(t, `SELECT count(*) FROM executions WHERE id = $1 AND outcome = 1`, id); n != 1 {
		t.Errorf("%d records", n)
	}
}

// Answers come just before, while and just after their callers stop waiting, and some of these leave: each run starts
// once, and each caller has its answer, now or later.
func TestWaitRaces(t *testing.T) {
	t.Parallel()
	w := startWhole(t)
	var callers sync.WaitGroup
	var accepted, answered, left atomic.Int32
	for i := range 12 {
		callers.Go(func() {
			for j := range 12 {
				ctx, cancel := context.WithCancel(t.Context())
				took := wholeWait + time.Duration((i*12+j)%25-12)*time.Millisecond
				if j%3 == 0 { // leaves at about the same time
					time.AfterFunc(wholeWait+time.Duration(i-6)*time.Millisecond, cancel)
				}
				r, _ := http.NewRequestWithContext(ctx, "POST", w.url+"/wait", strings.NewReader(took.String()))
				res, err := http.DefaultClient.Do(r)
				if err != nil {
					left.Add(1)
					cancel()
					continue
				}
				b, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				cancel()
				if err != nil {
					left.Add(1)
					continue
				}
				id, body := res.Header.Get(ExecutionHeader), string(b)
				if res.StatusCode == http.StatusAccepted {
					accepted.Add(1)
					res, body = with(t, "GET", w.url+res.Header.Get("Location")+"&wait=60s", "")
				} else {
					answered.Add(1)
				}
				if res.StatusCode != http.StatusCreated || body != id+" took "+took.String() || w.startsOf(id) != 1 {
					t.Errorf("%s, started %d times: %d %s", id, w.startsOf(id), res.StatusCode, body)
				}
			}
		})
	}
	callers.Wait()
	coretest.Eventually(t, "everything has ended", func() bool { return w.count(t, `SELECT count(*) FROM outbox`) == 0 })
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, n := range w.starts {
		if n != 1 {
			t.Errorf("%s was started %d times", id, n)
		}
	}
	if n := w.count(t, `SELECT count(*) FROM (SELECT id FROM executions GROUP BY id HAVING count(*) <> 1) AS x`); n != 0 {
		t.Errorf("%d executions have several ends", n)
	}
	t.Logf("%d accepted, %d answered, %d left", accepted.Load(), answered.Load(), left.Load())
}

func TestIdempotencyOfASyncCall(t *testing.T) {
	t.Parallel()
	w := startWhole(t)
	send := func(ctx context.Context, body string) (int, string, http.Header) {
		r, _ := http.NewRequestWithContext(ctx, "POST", w.url+"/stay", strings.NewReader(body))
		r.Header.Set("Idempotency-Key", body)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, "", nil
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b), res.Header
	}
	started := func(n int) func() bool {
		return func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.starts) == n
		}
	}

	first := make(chan string)
	go func() {
		_, body, _ := send(t.Context(), "told")
		first <- body
	}()
	coretest.Eventually(t, "the first runs", started(1))
	if status, body, h := send(t.Context(), "told"); status != 409 || kind(body) != "in_flight" || h.Get("Retry-After") != "1" {
		t.Errorf("in flight: %d %s", status, body)
	}
	close(w.told)
	want := <-first
	var status int
	var body string
	var h http.Header
	coretest.Eventually(t, "the answer is kept", func() bool {
		status, body, h = send(t.Context(), "told")
		return status != 409
	})
	if status != 201 || body != want || h.Get("Idempotency-Replayed") != "true" {
		t.Errorf("again: %d %s", status, body)
	}
	if res, body := with(t, "POST", w.url+"/stay", "1ms", "Idempotency-Key", "told"); res.StatusCode != 422 {
		t.Errorf("another request: %d %s", res.StatusCode, body)
	}

	// One whose caller leaves goes on: the same caller will ask again.
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		send(ctx, "200ms")
	}()
	coretest.Eventually(t, "the second runs", started(2))
	cancel()
	<-gone
	coretest.Eventually(t, "its answer is kept", func() bool {
		status, body, h = send(t.Context(), "200ms")
		return status != 409
	})
	if status != 201 || !strings.HasSuffix(body, " took 200ms") || h.Get("Idempotency-Replayed") != "true" || !started(2)() {
		t.Errorf("the caller came back: %d %s", status, body)
	}
}

// A run that goes on alone is not started again when its node stops: it ends as a dead letter, whose input is whole.
func TestNodeStopsARunThatGoesOnAlone(t *testing.T) {
	t.Parallel()
	w := startWhole(t)
	res, body := with(t, "POST", w.url+"/wait", "for ever")
	if res.StatusCode != http.StatusAccepted {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	w.stop()
	if w.count(t, `SELECT count(*) FROM dead_letters WHERE convert_from(payload, 'UTF8') = 'for ever'`) != 1 ||
		w.count(t, `SELECT count(*) FROM outbox`) != 0 {
		t.Error("it is no dead letter")
	}
	if res, body := with(t, "GET", w.url+res.Header.Get("Location"), ""); res.StatusCode != 503 || kind(body) != "cancelled" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}
