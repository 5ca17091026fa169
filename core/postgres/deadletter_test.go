package postgres_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/deadletter"
	"github.com/picloud/picloud/core/lifecycle"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
)

// graveyard is a database with an app whose script "work" leaves dead letters, and a live node.
type graveyard struct {
	*testing.T
	pool  *pgxpool.Pool
	store *postgres.DeadLetterStore
	epoch int64
	app   *tenant.App
	by    uuid.UUID
}

func newGraveyard(t *testing.T) *graveyard {
	t.Helper()
	pool := coretest.DB(t)
	g := &graveyard{T: t, pool: pool, store: postgres.NewDeadLetterStore(pool), epoch: live(t, pool), by: uuid.New()}
	g.app = g.newApp("mine")
	g.exec(`INSERT INTO users (id, name, role) VALUES ($1, 'ada', 'owner')`, g.by)
	return g
}

func (g *graveyard) exec(sql string, args ...any) int64 {
	g.Helper()
	tag, err := g.pool.Exec(g.Context(), sql, args...)
	if err != nil {
		g.Fatal(err)
	}
	return tag.RowsAffected()
}

func (g *graveyard) count(sql string, args ...any) (n int) {
	g.Helper()
	if err := g.pool.QueryRow(g.Context(), sql, args...).Scan(&n); err != nil {
		g.Fatal(err)
	}
	return n
}

// newApp makes an app with the scripts work and handle.
func (g *graveyard) newApp(slug string) *tenant.App {
	g.Helper()
	app := &tenant.App{ID: uuid.New(), Slug: slug}
	g.exec(`INSERT INTO apps (id, slug) VALUES ($1, $2)`, app.ID, slug)
	for _, name := range []string{"work", "handle"} {
		s := tenant.Script{ID: uuid.New(), App: app.ID, Name: name, Version: 1, Timeout: time.Minute, MaxAttempts: 5}
		g.exec(`INSERT INTO scripts (id, app, name, engine) VALUES ($1, $2, $3, 'go')`, s.ID, app.ID, name)
		app.Scripts = append(app.Scripts, s)
	}
	return app
}

// asks adds a trigger that brings the app's dead letters to its script handle.
func asks(app *tenant.App, f tenant.TriggerFilter) *tenant.Trigger {
	app.Triggers = append(app.Triggers, tenant.Trigger{
		ID: uuid.New(), App: app.ID, Name: fmt.Sprint("t", len(app.Triggers)), Kind: tenant.TriggerDeadLetter,
		Script: app.Scripts[1].ID, Filter: f, Enabled: true, RegisteredBy: uuid.New(),
	})
	return &app.Triggers[len(app.Triggers)-1]
}

// handlers are those of the apps, by the configuration that the database has now.
func (g *graveyard) handlers(apps ...*tenant.App) deadletter.Handlers {
	teller := lifecycle.New(lifecycle.Config{Log: hclog.NewNullLogger()})
	return deadletter.NewHandlers(tenant.NewSnapshot(int64(g.count(`SELECT version FROM config`)), apps), teller.Failure, nil)
}

// letter is what differs between dead letters of the tests.
type letter struct {
	app                  *tenant.App // nil: mine
	reason, err, cause   string
	payload              []byte
	depth                int
	root                 uuid.UUID
	gate                 string
	ago                  time.Duration
	principal, announced bool
}

func (g *graveyard) bury(l letter) uuid.UUID {
	g.Helper()
	if l.app == nil {
		l.app = g.app
	}
	id := uuid.Must(uuid.NewV7())
	if l.root == uuid.Nil {
		l.root = id
	}
	env := event.Envelope{ID: id.String(), Source: "queue", Type: "queue.message", Subject: "q", ContentType: "text/plain"}
	encoded, err := env.Marshal()
	if err != nil {
		g.Fatal(err)
	}
	var principal *uuid.UUID
	if l.principal {
		principal = &g.by
	}
	g.exec(`INSERT INTO dead_letters (id, event_id, app, lane, target, target_kind, root_id, kind, priority, attempts, max_attempts,
			depth, timeout_ms, reason, error, cause, fault, version, envelope, payload, accepted_at, created_at, gate, gate_limit,
			rate_key, backoff, principal, announced)
		VALUES ($1, $1, $2, $3, $3, 1, $4, 4, 7, 5, 5, $5, 1000, $6, $7, $8, 'script', 3, $9, $10, now(), now() - $11::interval,
			nullif($12, ''), 1, 'rk', '{"kind": "constant", "base": "1s"}', $13, $14)`,
		id, l.app.ID, l.app.Scripts[0].ID, l.root, l.depth, l.reason, l.err, l.cause, encoded, l.payload, l.ago, l.gate, principal,
		l.announced)
	return id
}

// announce takes what is new until nothing is left, and returns how many letters and entries that were.
func (g *graveyard) announce(h deadletter.Handlers) (letters, entries int) {
	g.Helper()
	for {
		l, e, err := g.store.Announce(g.Context(), g.epoch, h)
		if err != nil {
			g.Fatal(err)
		}
		if letters, entries = letters+l, entries+e; l == 0 {
			return letters, entries
		}
	}
}

func TestAnnounce(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	other := g.newApp("other")
	wanted := asks(g.app, tenant.TriggerFilter{Scripts: []string{"work"}, Reasons: []string{"exhausted"}})
	asks(g.app, tenant.TriggerFilter{Scripts: []string{"handle"}})
	asks(g.app, tenant.TriggerFilter{}).Enabled = false
	root := uuid.New()
	id := g.bury(letter{reason: "exhausted", err: "no", payload: []byte("text"), depth: 2, root: root})
	raw := g.bury(letter{reason: "exhausted", payload: []byte{0xff, 0}})
	g.bury(letter{reason: "fatal"})
	g.bury(letter{app: other, reason: "exhausted"})

	if letters, entries := g.announce(g.handlers(g.app, other)); letters != 4 || entries != 2 {
		t.Fatalf("took %d letters to %d handlers", letters, entries)
	}
	if n := g.count(`SELECT count(*) FROM dead_letters WHERE NOT announced`); n != 0 {
		t.Errorf("%d letters are new still", n)
	}
	if letters, entries := g.announce(g.handlers(g.app, other)); letters != 0 || entries != 0 {
		t.Errorf("took %d letters to %d handlers once more", letters, entries)
	}

	claimed, err := postgres.NewOutboxStore(g.pool).Claim(t.Context(), g.epoch,
		[]outbox.Quota{{LaneKey: outbox.LaneKey{App: g.app.ID, Lane: wanted.ID}, Count: 10}})
	if err != nil || len(claimed) != 2 {
		t.Fatalf("claimed %d: %v", len(claimed), err)
	}
	byLetter := map[uuid.UUID]*outbox.Entry{}
	for _, e := range claimed {
		byLetter[e.HandlerFor] = e
	}
	e := byLetter[id]
	if e == nil || e.Kind != outbox.KindLetter || e.Target != g.app.Scripts[1].ID || e.Trigger != wanted.ID || e.MaxAttempts != 1 ||
		e.Depth != 3 || e.RootID != root || e.Principal != wanted.RegisteredBy || e.Timeout != time.Minute {
		t.Fatalf("the handler's entry is %+v", e)
	}
	env, err := event.Unmarshal(e.Envelope)
	if err != nil || env.Type != "dead_letter" || env.Source != "dead_letter" || env.Subject != "work" || env.ContentType != "application/json" {
		t.Errorf("its event is %+v, %v", env, err)
	}
	var got map[string]any
	if err := json.Unmarshal(e.Payload, &got); err != nil {
		t.Fatal(err)
	}
	inner, _ := got["event"].(map[string]any)
	if got["id"] != id.String() || got["script"] != "work" || got["version"] != 3.0 || got["reason"] != "exhausted" || got["error"] != "no" ||
		got["fault"] != "script" || got["attempts"] != 5.0 || got["payload"] != "text" || inner["type"] != "queue.message" ||
		inner["content_type"] != "text/plain" {
		t.Errorf("the handler is told %s", e.Payload)
	}
	got = nil
	if err := json.Unmarshal(byLetter[raw].Payload, &got); err != nil || got["payload_base64"] != "/wA=" || got["payload"] != nil {
		t.Errorf("of bytes it is told %s, %v", byLetter[raw].Payload, err)
	}
	if n := g.count(`SELECT events FROM roots WHERE id = $1`, root); n != 1 {
		t.Errorf("%d events count for the first cause", n)
	}
}

// At the end of a chain of events no handler is made, but it is said that one was due.
func TestAnnounceStopped(t *testing.T) {
	t.Parallel()
	for reason, prepare := range map[string]func(g *graveyard) letter{
		"loop_depth": func(*graveyard) letter { return letter{depth: outbox.MaxDepth} },
		"loop_budget": func(g *graveyard) letter {
			root := uuid.New()
			g.exec(`INSERT INTO roots (id, app, events) VALUES ($1, $2, $3)`, root, g.app.ID, outbox.MaxRootEvents)
			return letter{depth: 1, root: root}
		},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			g := newGraveyard(t)
			trigger := asks(g.app, tenant.TriggerFilter{})
			l := prepare(g)
			l.reason = "fatal"
			id := g.bury(l)
			if letters, entries := g.announce(g.handlers(g.app)); letters != 1 || entries != 0 {
				t.Errorf("took %d letters to %d handlers", letters, entries)
			}
			if n := g.count(`SELECT count(*) FROM outbox`); n != 0 {
				t.Errorf("%d entries were written", n)
			}
			if n := g.count(`SELECT count(*) FROM executions WHERE outcome = $1 AND reason = $2 AND trigger = $3 AND script = $4
				AND depth = $5 AND kind = 5 AND position($6 IN error) > 0`, outbox.Stopped, reason, trigger.ID, g.app.Scripts[1].ID,
				l.depth+1, id.String()); n != 1 {
				t.Errorf("%d records say so", n)
			}
		})
	}
}

// Whoever asks for failures is told of those that no node is left to tell of, and of no others by their letters.
func TestAnnounceWhatANodeLost(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	g.app.Triggers = append(g.app.Triggers, tenant.Trigger{
		ID: uuid.New(), App: g.app.ID, Name: "alarm", Kind: tenant.TriggerApp, Script: g.app.Scripts[1].ID, Enabled: true,
		Filter: tenant.TriggerFilter{Events: []string{tenant.EventFailed}, Scripts: []string{"work"}}, RegisteredBy: g.by,
	})
	env := event.Envelope{Type: "queue.message"}
	encoded, err := env.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	last := map[int]uuid.UUID{} // of an owner that is no node: of a node that died, and of none, since nothing could be stored
	for _, owner := range []int{0, 1 << 40} {
		id := uuid.Must(uuid.NewV7())
		g.exec(`INSERT INTO outbox (id, event_id, app, lane, target, root_id, run_at, accepted_at, timeout_ms, kind, state, owner, attempt,
				max_attempts, envelope) VALUES ($1, $1, $2, $3, $3, $1, now(), now(), 1000, 4, 2, $4, 2, 2, $5)`,
			id, g.app.ID, g.app.Scripts[0].ID, owner, encoded)
		last[owner] = id
	}
	if _, ended, dead, err := postgres.NewOutboxStore(g.pool).Sweep(t.Context()); err != nil || ended != 2 || dead != 2 {
		t.Fatalf("%d ended, %d dead letters, %v", ended, dead, err)
	}
	g.bury(letter{reason: "exhausted", cause: "0123456789abcdef"})
	if letters, entries := g.announce(g.handlers(g.app)); letters != 3 || entries != 2 {
		t.Errorf("took %d letters, %d are told", letters, entries)
	}
	for owner, id := range last {
		if n := g.count(`SELECT count(*) FROM outbox WHERE kind = 12 AND trigger = $1 AND target = $2 AND depth = 1 AND root_id = $3 AND principal = $4
			AND convert_from(payload, 'UTF8') LIKE '%"script":"work"%"execution_id":"' || $3 || '","kind":"queue","outcome":"dead_lettered","reason":"exhausted"%'`,
			g.app.Triggers[0].ID, g.app.Scripts[1].ID, id, g.by); n != 1 {
			t.Errorf("owner %d: %d are told", owner, n)
		}
	}
}

// A letter waits for who knows the newest configuration, and for a node that may write.
func TestAnnounceNeedsTheConfigurationAndTheLease(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	g.bury(letter{reason: "fatal"})
	old := g.handlers(g.app)
	g.exec(`UPDATE config SET version = version + 1`)
	if _, _, err := g.store.Announce(t.Context(), g.epoch, old); !errors.Is(err, deadletter.ErrOld) {
		t.Errorf("with an old configuration: %v", err)
	}
	asks(g.app, tenant.TriggerFilter{})
	if _, _, err := g.store.Announce(t.Context(), g.epoch+1, g.handlers(g.app)); !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("under a lost epoch: %v", err)
	}
	if letters, entries := g.announce(g.handlers(g.app)); letters != 1 || entries != 1 {
		t.Errorf("took %d letters to %d handlers", letters, entries)
	}
}

// Several nodes bring each letter to its handler once.
func TestAnnounceByMany(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	asks(g.app, tenant.TriggerFilter{})
	h := g.handlers(g.app)
	const n = 300
	for range n {
		g.bury(letter{reason: "fatal"})
	}
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for {
				letters, _, err := g.store.Announce(t.Context(), g.epoch, h)
				if err != nil || letters == 0 {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	all.Wait()
	g.announce(h)
	if got := g.count(`SELECT count(DISTINCT handler_for) FROM outbox`); got != n {
		t.Errorf("%d of %d letters have a handler", got, n)
	}
	if got := g.count(`SELECT count(*) FROM outbox`); got != n {
		t.Errorf("%d handlers of %d letters", got, n)
	}
}

// What is read of large letters at once is bounded.
func TestAnnounceLarge(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	asks(g.app, tenant.TriggerFilter{})
	for range 3 {
		g.bury(letter{reason: "fatal", payload: bytes.Repeat([]byte("x"), 9<<20)})
	}
	h := g.handlers(g.app)
	if letters, entries, err := g.store.Announce(t.Context(), g.epoch, h); err != nil || letters != 1 || entries != 1 {
		t.Errorf("at once %d letters to %d handlers, %v", letters, entries, err)
	}
	if letters, _ := g.announce(h); letters != 2 {
		t.Errorf("then %d", letters)
	}
}

// What many expressions are asked of is taken a few at a time, so that no app's letters take the time that there is for those of all.
func TestAnnounceExpressions(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	for range 150 {
		asks(g.app, tenant.TriggerFilter{When: "data.reason == 'fatal'"})
		asks(g.app, tenant.TriggerFilter{Reasons: []string{"exhausted"}})
	}
	for range 5 {
		g.bury(letter{reason: "poison"})
	}
	h := g.handlers(g.app)
	for _, want := range []int{2, 2, 1, 0} {
		if letters, entries, err := g.store.Announce(t.Context(), g.epoch, h); err != nil || letters != want || entries != 0 {
			t.Errorf("took %d letters to %d handlers, want %d, %v", letters, entries, want, err)
		}
	}
}
