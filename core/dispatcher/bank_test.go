package dispatcher_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/dispatcher"
	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

var kills = flag.Int("kills", 14, "how often TestTransfersKilled kills")

// bank is a node with a transactional script, and no engine: a function stands for it, which makes real calls.
type bank struct {
	*dispatcher.Dispatcher
	inbox  *inbox.Inbox
	pool   *pgxpool.Pool
	app    *tenant.App
	script *tenant.Script
}

// handler is a run of the bank's script: it makes calls, "kv.get", and returns what it answers.
type handler func(call func(what string, args any) (map[string]any, error), body []byte) (any, error)

// Invoke is a run in an engine.
func (h handler) Invoke(ctx context.Context, _ *tenant.Script, _ bool, r *engine.Request, out engine.Reply) error {
	answer, err := h(func(what string, args any) (map[string]any, error) {
		text, err := json.Marshal(args)
		if err != nil {
			return nil, err
		}
		name, method, _ := strings.Cut(what, ".")
		b, err := r.Call(ctx, name, method, text)
		if err != nil {
			return nil, err
		}
		var m map[string]any
		return m, json.Unmarshal(b, &m)
	}, r.Body)
	if err != nil {
		f := *fault.From(err)
		if f.Origin == fault.Script {
			f.Kind = fault.ScriptError
		}
		return &f
	}
	if err := out.Head(engine.Head{Status: 200}); err != nil {
		return err
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

func openBank(
	ctx context.Context, url string, app uuid.UUID, h handler, log hclog.Logger, configure ...func(*dispatcher.Config),
) (*bank, func(), error) {
	id := func(name string) uuid.UUID { return uuid.NewSHA1(app, []byte(name)) }
	a := &tenant.App{ID: app, Slug: "bank"}
	a.Scripts = []tenant.Script{
		{
			ID: id("transfer"), App: app, Name: "transfer", Kind: tenant.KindEndpoint, Version: 1, Timeout: time.Minute, MaxAttempts: 25,
			Transactional: true,
		},
		{ID: id("later"), App: app, Name: "later", Kind: tenant.KindEndpoint, Version: 1, Timeout: time.Second, MaxAttempts: 1},
	}
	a.Queues = []tenant.Queue{{ID: id("out"), App: app, Name: "out", Script: id("later")}}
	a.Triggers = []tenant.Trigger{
		{ID: id("changed"), App: app, Name: "changed", Kind: tenant.TriggerKV, Script: id("later"), Enabled: true, Filter: tenant.TriggerFilter{Collection: "watched"}},
		{ID: id("told"), App: app, Name: "told", Kind: tenant.TriggerPubSub, Script: id("later"), Enabled: true, Filter: tenant.TriggerFilter{Topic: "*"}},
	}
	a.Paused = []uuid.UUID{id("later")}
	snapshot := tenant.NewSnapshot(1, []*tenant.App{a})
	var pools []*pgxpool.Pool
	closeAll := func() {
		for _, p := range pools {
			p.Close()
		}
	}
	open := func(settings map[string]string) *pgxpool.Pool {
		p, err := postgres.Open(ctx, postgres.Config{URL: url, MaxConns: 6, Settings: settings}, log)
		if err != nil {
			panic(err)
		}
		pools = append(pools, p)
		return p
	}
	general, store := open(map[string]string{"plan_cache_mode": "force_custom_plan"}), open(nil)
	nodes, err := postgres.NewNodeStore(url)
	if err != nil {
		return nil, nil, err
	}
	b := &bank{inbox: &inbox.Inbox{}, pool: store, app: a, script: &a.Scripts[0]}
	late := &lateOutbox{b: b}
	host := service.New(service.Config{
		Outbox: late, Snapshot: func() *tenant.Snapshot { return snapshot }, Entries: postgres.NewKeyedStore(store), KV: postgres.NewKVStore(store),
		Docs: postgres.NewDocStore(store), Queues: postgres.NewQueueStore(store), Units: postgres.NewUnitStore(store), Log: log,
	})
	cfg := dispatcher.Config{
		Node:  dispatcher.Node{Name: "bank", Kinds: []int16{1, 2, 3, 4, 5, 6, 9}},
		Nodes: nodes, Claims: postgres.NewOutboxStore(general), Durable: postgres.NewOutboxStore(store), Fast: postgres.NewOutboxStore(store),
		Keyed: postgres.NewKeyedStore(store), FastKeyed: postgres.NewKeyedStore(store), Units: postgres.NewUnitStore(store),
		Lane: snapshot.Lane, DeadLettered: func() {}, Judge: func(*outbox.Settlement) {}, Failed: func(*outbox.Settlement) {},
		Runner: execution.New(h, snapshot, host, b.inbox, auth.NewActing(postgres.NewUserStore(general)), func(ctx context.Context, e *outbox.Entry, res *execution.Result, u *service.Unit) *fault.Fault {
			return b.Commit(ctx, e, res, u)
		}),
		Inbox: b.inbox, Alone: func() bool { return true }, Configured: func(int64) {}, Slots: 64, SyncWaiting: 64, Log: log,
	}
	for _, change := range configure {
		change(&cfg)
	}
	b.Dispatcher = dispatcher.New(cfg)
	if err := b.Start(ctx); err != nil {
		return nil, nil, err
	}
	return b, closeAll, nil
}

// lateOutbox is a bank's dispatcher for what is made before it.
type lateOutbox struct{ b *bank }

func (l *lateOutbox) Append(ctx context.Context, e *outbox.Entry) error { return l.b.Append(ctx, e) }
func (l *lateOutbox) Hand(e *outbox.Entry) (bool, error)                { return l.b.Hand(e) }
func (l *lateOutbox) Hold(ctx context.Context, epoch int64) error       { return l.b.Hold(ctx, epoch) }

func (l *lateOutbox) AppendCaused(ctx context.Context, app uuid.UUID, size int, commit func(int64) ([]*outbox.Entry, error)) error {
	return l.b.AppendCaused(ctx, app, size, commit)
}

// startBank starts a bank that ends with the test.
func startBank(t *testing.T, url string, app uuid.UUID, h handler, configure ...func(*dispatcher.Config)) *bank {
	t.Helper()
	if url == "" {
		url = coretest.URL(t)
	}
	b, closeAll, err := openBank(t.Context(), url, app, h, coretest.Logger(t), configure...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Stop(context.Background()); closeAll() })
	return b
}

// order is an event for the bank's script.
func (b *bank) order(body string) *outbox.Entry {
	id := uuid.Must(uuid.NewV7())
	env, _ := (&event.Envelope{ID: id.String(), Type: "order"}).Marshal()
	return &outbox.Entry{
		ID: id, EventID: id, RootID: id, App: b.app.ID, Lane: b.script.ID, Target: b.script.ID, TargetKind: outbox.TargetScript,
		Kind: outbox.KindInvoke, AcceptedAt: time.Now(), Timeout: time.Minute, MaxAttempts: 1000, Envelope: env, Payload: []byte(body),
		Backoff: &retry.Policy{Kind: retry.Exponential, Base: retry.Duration(5 * time.Millisecond), Factor: 1.5, Cap: retry.Duration(50 * time.Millisecond)},
	}
}

// ask has the script run for a caller, and returns the answer or the fault that it is told.
func (b *bank) ask(t *testing.T, body string) (string, *fault.Fault) {
	t.Helper()
	e := b.order(body)
	e.ReplyTo = uuid.New()
	w := b.inbox.Register(e.ReplyTo)
	defer w.Close()
	if err := b.Call(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	part, err := w.Next(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(part.Data), part.Fault
}

func (b *bank) count(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	if err := b.pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

const accounts = 10

// transfer moves money between two accounts, notes that it has, and tells of it.
func transfer(call func(string, any) (map[string]any, error), body []byte) (any, error) {
	var o struct {
		ID       string
		From, To int
		Amount   float64
	}
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, err
	}
	place := func(collection string, key any) map[string]any {
		return map[string]any{"collection": collection, "key": fmt.Sprint(key)}
	}
	balances := [2]float64{}
	for i, account := range []int{o.From, o.To} {
		got, err := call("kv.get", place("accounts", account))
		if err != nil {
			return nil, err
		}
		balances[i], _ = got["value"].(float64)
	}
	for i, account := range []int{o.From, o.To} {
		w := place("accounts", account)
		w["value"] = balances[i] + []float64{-o.Amount, o.Amount}[i]
		if _, err := call("kv.set", w); err != nil {
			return nil, err
		}
	}
	if _, err := call("kv.increment", place("applied", o.ID)); err != nil {
		return nil, err
	}
	_, err := call("queue.send", map[string]any{"queue": "out", "messages": []any{map[string]any{"data": o.ID}}})
	return "done", err
}

func newTransfer(random *rand.Rand) string {
	from := random.IntN(accounts)
	return fmt.Sprintf(`{"ID":%q,"From":%d,"To":%d,"Amount":%d}`, uuid.NewString(), from, (from+1+random.IntN(accounts-1))%accounts, 1+random.IntN(50))
}

func (b *bank) fund(t *testing.T) {
	t.Helper()
	if _, err := b.pool.Exec(t.Context(), `INSERT INTO kv_entries (app, collection, key, value) SELECT $1, 'accounts', n::text, '1000' FROM generate_series(0, $2 - 1) n`,
		b.app.ID, accounts); err != nil {
		t.Fatal(err)
	}
}

// audit checks that no money has come or gone, and that nothing was done twice.
func audit(t *testing.T, pool *pgxpool.Pool, app uuid.UUID) (applied int) {
	t.Helper()
	var sum, most, told int
	err := pool.QueryRow(t.Context(), `
SELECT (SELECT sum(value::int) FROM kv_entries WHERE app = $1 AND collection = 'accounts'), count(*), coalesce(max(value::int), 0),
    (SELECT count(*) FROM outbox WHERE app = $1 AND kind = 4)
FROM kv_entries WHERE app = $1 AND collection = 'applied'`, app).Scan(&sum, &applied, &most, &told)
	if err != nil {
		t.Fatal(err)
	}
	if sum != accounts*1000 || most > 1 || told != applied {
		t.Fatalf("the sum is %d, a transfer was done %d times, %d were told of %d", sum, most, told, applied)
	}
	return applied
}
