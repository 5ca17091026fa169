package postgres_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
)

// live makes an epoch, under which entries may be written.
func live(t *testing.T, pool *pgxpool.Pool) (epoch int64) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `INSERT INTO nodes (name) VALUES ('n') RETURNING epoch`).Scan(&epoch); err != nil {
		t.Fatal(err)
	}
	return epoch
}

// running writes an entry that runs under epoch.
func running(t *testing.T, pool *pgxpool.Pool, epoch int64, key *outbox.Idempotency) *outbox.Entry {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	e := &outbox.Entry{
		ID: id, EventID: id, RootID: id, App: uuid.New(), Lane: uuid.New(), TargetKind: outbox.TargetScript, Kind: outbox.KindHTTP,
		State: outbox.Running, Attempt: 1, MaxAttempts: 1, AcceptedAt: time.Now(), Timeout: time.Minute, Envelope: []byte("e"),
		Payload: []byte("p"), KeepAnswer: true, Idempotency: key, Owner: epoch,
	}
	e.Target = e.Lane
	refused, err := postgres.NewKeyedStore(pool).Insert(t.Context(), epoch, []*outbox.Entry{e}, false)
	if err != nil || refused[0] != nil {
		t.Fatal(refused, err)
	}
	return e
}

func settle(t *testing.T, pool *pgxpool.Pool, x *outbox.Settlement) {
	t.Helper()
	x.Started = time.Now()
	n, err := postgres.NewOutboxStore(pool).Settle(t.Context(), x.Entry.Owner, []*outbox.Settlement{x})
	if err != nil || n != 1 {
		t.Fatalf("settled %d: %v", n, err)
	}
}

func TestResultOfAnAnswer(t *testing.T) {
	t.Parallel()
	pool := coretest.DB(t)
	store := postgres.NewResultStore(pool)
	e := running(t, pool, live(t, pool), nil)
	if res, err := store.Get(t.Context(), e.App, e.ID); err != nil || !res.Pending() || res.State != outbox.Running {
		t.Fatalf("%+v %v", res, err)
	}
	for _, other := range []struct{ app, id uuid.UUID }{{uuid.New(), e.ID}, {e.App, uuid.New()}} {
		if res, err := store.Get(t.Context(), other.app, other.id); !errors.Is(err, tenant.ErrNotFound) {
			t.Errorf("%+v %v", res, err)
		}
	}
	settle(t, pool, &outbox.Settlement{Entry: e, Outcome: outbox.Succeeded, Version: 1, Status: 201, Answer: &outbox.Answer{
		Status: 201, Headers: []event.Header{{Name: "X-A", Value: "é"}}, Body: []byte{0, 0xff},
	}})
	res, err := store.Get(t.Context(), e.App, e.ID)
	if err != nil || res.Pending() || res.Answer == nil {
		t.Fatalf("%+v %v", res, err)
	}
	a := res.Answer
	if a.Status != 201 || len(a.Headers) != 1 || a.Headers[0] != (event.Header{Name: "X-A", Value: "é"}) ||
		string(a.Body) != "\x00\xff" || a.Kind != "" {
		t.Fatalf("%+v", a)
	}
	if _, err := store.Get(t.Context(), uuid.New(), e.ID); !errors.Is(err, tenant.ErrNotFound) {
		t.Fatal("another app sees it")
	}

	// After its day an answer is gone, though not how the entry ended.
	if _, err := pool.Exec(t.Context(), `UPDATE results SET expires_at = now()`); err != nil {
		t.Fatal(err)
	}
	if res, err := store.Get(t.Context(), e.App, e.ID); err != nil || res.Answer != nil || res.Outcome != outbox.Succeeded {
		t.Fatalf("%+v %v", res, err)
	}
	if n, err := store.Purge(t.Context()); err != nil || n != 1 || text(t, pool, `SELECT count(*)::text FROM results`) != "0" {
		t.Fatalf("purged %d: %v", n, err)
	}
}

func TestResultWithoutAnswer(t *testing.T) {
	t.Parallel()
	pool := coretest.DB(t)
	e := running(t, pool, live(t, pool), nil)
	settle(t, pool, &outbox.Settlement{Entry: e, Outcome: outbox.DeadLettered, Version: 1, Reason: outbox.ReasonExhausted})
	res, err := postgres.NewResultStore(pool).Get(t.Context(), e.App, e.ID)
	if err != nil || res.Pending() || res.Answer != nil || res.Outcome != outbox.DeadLettered || res.Reason != outbox.ReasonExhausted {
		t.Fatalf("%+v %v", res, err)
	}
}

// A key belongs to its first request for a day, unless that ended before anything was started.
func TestFreeKey(t *testing.T) {
	t.Parallel()
	pool := coretest.DB(t)
	epoch := live(t, pool)
	store := postgres.NewResultStore(pool)
	for i, c := range []struct {
		x    *outbox.Settlement // nil: it still runs
		free bool
	}{
		{nil, false},
		{&outbox.Settlement{Outcome: outbox.Failed, Reason: "unavailable", Version: 3}, true},
		{&outbox.Settlement{Outcome: outbox.Abandoned, Reason: "caller_gone"}, true},
		{&outbox.Settlement{Outcome: outbox.Abandoned, Reason: "caller_gone", Version: 3}, false},
		{&outbox.Settlement{Outcome: outbox.Abandoned, Reason: "node_lost"}, false},
		{&outbox.Settlement{Outcome: outbox.Failed, Reason: "script_error", Version: 3}, false},
		{&outbox.Settlement{Outcome: outbox.Failed, Reason: "not_found", Answer: &outbox.Answer{Status: 404}}, false},
		{&outbox.Settlement{Outcome: outbox.Succeeded, Version: 3, Answer: &outbox.Answer{Status: 200}}, false},
	} {
		key := &outbox.Idempotency{Scope: uuid.New(), Key: fmt.Sprint("k", i), Hash: []byte("h")}
		e := running(t, pool, epoch, key)
		if c.x != nil {
			c.x.Entry = e
			settle(t, pool, c.x)
		}
		if free, err := store.Free(t.Context(), e.App, key, uuid.New()); err != nil || free {
			t.Errorf("%d: the key of another entry was freed: %v", i, err)
		}
		if free, err := store.Free(t.Context(), e.App, key, e.ID); err != nil || free != c.free {
			t.Errorf("%d: freed %v, %v", i, free, err)
		}
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	store := postgres.NewResultStore(coretest.DB(t))
	secret, err := store.Secret(t.Context())
	if err != nil || len(secret) != 32 {
		t.Fatalf("%d bytes, %v", len(secret), err)
	}
}

// A plugin that is no friend of ours may name its faults in ways that the database takes for no text.
func TestSettledWordsAreStorable(t *testing.T) {
	t.Parallel()
	pool := coretest.DB(t)
	epoch := live(t, pool)
	const dirty, stored = "a\x00b\xff", "a\ufffdb\ufffd"
	for outcome, table := range map[outbox.Outcome]string{outbox.HandlerFailed: "executions", outbox.DeadLettered: "dead_letters"} {
		e := running(t, pool, epoch, nil)
		settle(t, pool, &outbox.Settlement{
			Entry: e, Outcome: outcome, Version: 1, Reason: dirty, Error: dirty, Fault: dirty, Cause: "c",
			Answer: &outbox.Answer{Status: 502, Kind: dirty, Error: dirty},
		})
		res, err := postgres.NewResultStore(pool).Get(t.Context(), e.App, e.ID)
		if err != nil || res.Answer == nil || res.Answer.Kind != stored || res.Answer.Error != stored {
			t.Errorf("%+v %v", res, err)
		}
		var reason, text, origin string
		err = pool.QueryRow(t.Context(), `SELECT reason, error, fault FROM `+table+` WHERE id = $1`, e.ID).Scan(&reason, &text, &origin)
		if err != nil || reason != stored || text != stored || origin != stored {
			t.Errorf("%s has %q, %q and %q: %v", table, reason, text, origin, err)
		}
	}
}

// An entry of whose run nothing can be stored ends as one whose node died: whoever asks for its result is told how it ended,
// and its idempotency key is not free, since it may have had its effect.
func TestSettleLost(t *testing.T) {
	t.Parallel()
	pool := coretest.DB(t)
	epoch := live(t, pool)
	outboxes, results := postgres.NewOutboxStore(pool), postgres.NewResultStore(pool)
	key := &outbox.Idempotency{Scope: uuid.New(), Key: "k", Hash: []byte("h")}
	last, again, known := running(t, pool, epoch, key), running(t, pool, epoch, nil), running(t, pool, epoch, nil)
	for statement, e := range map[string]*outbox.Entry{
		`UPDATE outbox SET max_attempts = 2 WHERE id = $1`: again,
		`INSERT INTO dead_letters (id, event_id, app, lane, target, target_kind, root_id, kind, priority, attempts, max_attempts,
			depth, timeout_ms, reason, cause, envelope, accepted_at)
		SELECT id, id, app, lane, target, 1, id, kind, 0, 1, 1, 0, 1, 'fatal', 'known', envelope, now()
		FROM outbox WHERE id = $1`: known,
	} {
		if _, err := pool.Exec(t.Context(), statement, e.ID); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range []*outbox.Entry{last, again, known} {
		settle(t, pool, &outbox.Settlement{
			Entry: e, Lost: true, Outcome: outbox.Succeeded, Reason: "\x00", Answer: &outbox.Answer{Status: 200, Kind: "\x00"},
		})
	}
	if res, err := results.Get(t.Context(), last.App, last.ID); err != nil || !res.Pending() {
		t.Fatalf("%+v %v", res, err)
	}
	if freed, ended, dead, err := outboxes.Sweep(t.Context()); err != nil || freed != 1 || ended != 2 || dead != 2 {
		t.Fatalf("freed %d, ended %d, dead %d: %v", freed, ended, dead, err)
	}
	res, err := results.Get(t.Context(), last.App, last.ID)
	if err != nil || res.Outcome != outbox.DeadLettered || res.Answer != nil {
		t.Errorf("%+v %v", res, err)
	}
	if free, err := results.Free(t.Context(), last.App, key, last.ID); err != nil || free {
		t.Errorf("the key is free: %v %v", free, err)
	}
	const why = "how the run ended could not be stored"
	if got := text(t, pool, `SELECT error || ' ' || reason || ' ' || cause FROM dead_letters WHERE cause <> 'known'`); got != why+" exhausted not_stored" {
		t.Errorf("the dead letter says %q", got)
	}
	if got := text(t, pool, `SELECT concat_ws(' ', state, attempt, node_losses, last_error) FROM outbox`); got != "1 1 1 "+why {
		t.Errorf("the other is %q", got)
	}
}
