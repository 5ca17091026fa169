package postgres_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/record"
	"github.com/picloud/picloud/core/tenant"
)

// audited counts what the log says was done to an object.
func (g *graveyard) audited(action string, object uuid.UUID) int {
	g.Helper()
	return g.count(`SELECT count(*) FROM audit_log WHERE action = $1 AND object = $2 AND actor = $3 AND app = $4`, action,
		object.String(), g.by, g.app.ID)
}

// claim takes all that is ready in the lane of the app's script.
func (g *graveyard) claim() []*outbox.Entry {
	g.Helper()
	entries, err := postgres.NewOutboxStore(g.pool).Claim(g.Context(), g.epoch, quotas(g.app.ID, g.app.Scripts[0].ID, 100))
	if err != nil {
		g.Fatal(err)
	}
	return entries
}

// A replay begins anew with its attempts, and with nothing else.
func TestReplay(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	root := uuid.New()
	same := g.bury(letter{reason: "fatal", payload: []byte("old"), depth: 4, root: root, principal: true})
	edited, emptied := g.bury(letter{payload: []byte("old")}), g.bury(letter{payload: []byte("old")})
	ids := map[uuid.UUID]uuid.UUID{} // letters by entry
	for letter, payload := range map[uuid.UUID][]byte{same: nil, edited: []byte("new"), emptied: {}} {
		id, err := g.store.Replay(t.Context(), g.by, g.app.ID, letter, payload)
		if err != nil {
			t.Fatal(err)
		}
		ids[id] = letter
	}
	payloads := map[uuid.UUID]string{}
	for _, e := range g.claim() {
		letter := ids[e.ID]
		payloads[letter] = string(e.Payload)
		if e.ReplayOf != letter || e.Kind != outbox.KindReplay || e.Attempt != 1 || e.MaxAttempts != 5 || e.Priority != 7 ||
			e.RateKey != "rk" || e.Backoff == nil || time.Duration(e.Backoff.Base) != time.Second || e.EventID != letter {
			t.Errorf("put back as %+v", e)
		}
		if letter == same && (e.Depth != 4 || e.RootID != root || e.Principal != g.by) {
			t.Errorf("put back with another past: %+v", e)
		}
	}
	if len(payloads) != 3 || payloads[same] != "old" || payloads[edited] != "new" || payloads[emptied] != "" {
		t.Errorf("put back with %q", payloads)
	}
	if n := g.count(`SELECT count(*) FROM dead_letters WHERE resolution = 'replayed' AND resolved_at IS NOT NULL
		AND replayed_as IN (SELECT id FROM outbox)`); n != 3 {
		t.Errorf("%d letters say so", n)
	}
	var conflict *tenant.Conflict
	if _, err := g.store.Replay(t.Context(), g.by, g.app.ID, same, nil); !errors.As(err, &conflict) {
		t.Errorf("a second time: %v", err)
	}
	if _, err := g.store.Replay(t.Context(), g.by, g.newApp("other").ID, edited, nil); !errors.Is(err, tenant.ErrNotFound) {
		t.Errorf("from another app: %v", err)
	}
	if n := g.audited("dead_letter.replay", same); n != 1 {
		t.Errorf("the log has it %d times", n)
	}
}

// Letters of one key wait for one another, and for those who are there already.
func TestReplayAtAGate(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	gate := outbox.OrderGate("k")
	id := uuid.Must(uuid.NewV7())
	before := &outbox.Entry{
		ID: id, EventID: id, RootID: id, App: g.app.ID, Lane: g.app.Scripts[0].ID, Target: g.app.Scripts[0].ID, State: outbox.Ready,
		TargetKind: outbox.TargetScript, Kind: outbox.KindQueue, MaxAttempts: 1, Timeout: time.Minute, Envelope: []byte("e"), Gate: gate, GateLimit: 1,
	}
	if refused, err := postgres.NewKeyedStore(g.pool).Insert(t.Context(), g.epoch, []*outbox.Entry{before}, false); err != nil || refused[0] != nil {
		t.Fatal(refused, err)
	}
	want := []uuid.UUID{id}
	for range 3 {
		entry, err := g.store.Replay(t.Context(), g.by, g.app.ID, g.bury(letter{gate: gate}), nil)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, entry)
	}
	var order []uuid.UUID
	for range want {
		entries := g.claim()
		if len(entries) != 1 {
			t.Fatalf("%d of one key are through", len(entries))
		}
		e := entries[0]
		order = append(order, e.ID)
		settle(t, g.pool, &outbox.Settlement{Entry: e, Outcome: outbox.Succeeded, Version: 1})
	}
	if !slices.Equal(order, want) {
		t.Errorf("ran in the order %v, want %v", order, want)
	}
}

// step does a step that is due and returns how the replay stands.
func (g *graveyard) step(id uuid.UUID) (int, record.Replay) {
	g.Helper()
	g.exec(`UPDATE replays SET next_at = clock_timestamp() WHERE state = 'running'`)
	n, _, err := g.store.StepReplay(g.Context())
	if err != nil {
		g.Fatal(err)
	}
	r, err := g.store.GetReplay(g.Context(), g.app.ID, id)
	if err != nil {
		g.Fatal(err)
	}
	return n, r
}

// fail has all that is ready fail for good.
func (g *graveyard) fail() {
	g.Helper()
	for _, e := range g.claim() {
		settle(g.T, g.pool, &outbox.Settlement{Entry: e, Outcome: outbox.DeadLettered, Version: 3, Reason: "fatal", Cause: "c"})
	}
}

func TestReplayByFilter(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	var want []uuid.UUID
	for i := range 5 {
		want = append(want, g.bury(letter{reason: "fatal", ago: time.Duration(9-i) * time.Minute}))
	}
	g.bury(letter{reason: "exhausted"})
	g.bury(letter{app: g.newApp("other"), reason: "fatal"})
	r, err := g.store.StartReplay(t.Context(), g.by, g.app.ID, record.DeadLetterFilter{Reason: "fatal"}, 2, false)
	if err != nil || r.State != "running" || r.Total != 5 || r.CreatedBy != g.by {
		t.Fatalf("started %+v, %v", r, err)
	}
	g.bury(letter{reason: "fatal"}) // after it began
	var order []uuid.UUID
	for i, n := range []int{2, 2, 1, 0} {
		did, now := g.step(r.ID)
		if did != n {
			t.Errorf("step %d put %d back", i, did)
		}
		if state := map[bool]string{true: "done", false: "running"}[n == 0]; now.State != state {
			t.Errorf("after step %d it is %s", i, now.State)
		}
		r = now
		for _, e := range g.claim() {
			order = append(order, e.ReplayOf)
			settle(t, g.pool, &outbox.Settlement{Entry: e, Outcome: outbox.DeadLettered, Version: 3, Reason: "fatal", Cause: "c"})
		}
	}
	slices.SortFunc(order[:2], func(a, b uuid.UUID) int { return slices.Index(want, a) - slices.Index(want, b) })
	slices.SortFunc(order[2:4], func(a, b uuid.UUID) int { return slices.Index(want, a) - slices.Index(want, b) })
	if !slices.Equal(order, want) {
		t.Errorf("put back %v, want %v", order, want)
	}
	if r.Replayed != 5 || r.Failed != 5 || r.EndedAt == nil {
		t.Errorf("ended as %+v", r)
	}
	if _, did, err := g.store.StepReplay(t.Context()); did || err != nil {
		t.Errorf("a step after the end: %v, %v", did, err)
	}
	if n := g.audited("replay.start", r.ID); n != 1 {
		t.Errorf("the log has it %d times", n)
	}
}

func TestReplayStops(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	for range 4 {
		g.bury(letter{reason: "fatal"})
	}
	r, err := g.store.StartReplay(t.Context(), g.by, g.app.ID, record.DeadLetterFilter{}, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	if n, now := g.step(r.ID); n != 1 || now.State != "running" {
		t.Errorf("put %d back, then it is %s", n, now.State)
	}
	g.fail()
	if n, now := g.step(r.ID); n != 0 || now.State != "stopped" || now.Replayed != 1 || now.Failed != 1 {
		t.Errorf("after a failure it put %d back and is %+v", n, now)
	}

	// Somebody stops the next.
	if r, err = g.store.StartReplay(t.Context(), g.by, g.app.ID, record.DeadLetterFilter{}, 1, false); err != nil || r.Total != 4 {
		t.Fatalf("%+v, %v", r, err)
	}
	g.step(r.ID)
	other := g.newApp("other").ID
	if err := g.store.CancelReplay(t.Context(), g.by, other, r.ID); !errors.Is(err, tenant.ErrNotFound) {
		t.Errorf("cancelled from another app: %v", err)
	}
	if _, err := g.store.GetReplay(t.Context(), other, r.ID); !errors.Is(err, tenant.ErrNotFound) {
		t.Errorf("seen from another app: %v", err)
	}
	if err := g.store.CancelReplay(t.Context(), g.by, g.app.ID, r.ID); err != nil {
		t.Fatal(err)
	}
	if n, now := g.step(r.ID); n != 0 || now.State != "cancelled" || now.Replayed != 1 || now.EndedAt == nil {
		t.Errorf("after its end it put %d back and is %+v", n, now)
	}
	var conflict *tenant.Conflict
	if err := g.store.CancelReplay(t.Context(), g.by, g.app.ID, r.ID); !errors.As(err, &conflict) {
		t.Errorf("cancelled twice: %v", err)
	}
	if n := g.audited("replay.cancel", r.ID); n != 1 {
		t.Errorf("the log has it %d times", n)
	}

	// The end of an app is the end of what is put back in it.
	if r, err = g.store.StartReplay(t.Context(), g.by, g.app.ID, record.DeadLetterFilter{}, 1, false); err != nil {
		t.Fatal(err)
	}
	g.exec(`UPDATE apps SET deleted_at = now() WHERE id = $1`, g.app.ID)
	if n, did, err := g.store.StepReplay(t.Context()); n != 0 || !did || err != nil {
		t.Errorf("a step in a deleted app put %d back, %v, %v", n, did, err)
	}
	if n := g.count(`SELECT count(*) FROM replays WHERE id = $1 AND state = 'cancelled'`, r.ID); n != 1 {
		t.Error("it goes on in a deleted app")
	}
}

// A step is due a second after the one before was due, whenever a node looked, but not two at once.
func TestReplayRate(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	for range 4 {
		g.bury(letter{})
	}
	g.exec(`UPDATE dead_letters SET created_at = now() - interval '1 hour'`)
	if _, err := g.store.StartReplay(t.Context(), g.by, g.app.ID, record.DeadLetterFilter{}, 1, false); err != nil {
		t.Fatal(err)
	}
	for _, late := range []string{"0.3 seconds", "9 seconds"} {
		g.exec(`UPDATE replays SET (next_at, created_at) = (SELECT due, due FROM (SELECT clock_timestamp() - $1::interval AS due) x)`, late)
		if n, _, err := g.store.StepReplay(t.Context()); n != 1 || err != nil {
			t.Fatalf("put %d back, %v", n, err)
		}
		// The step was made at some time since, which may be long on a busy machine.
		if g.count(`SELECT count(*) FROM replays WHERE next_at >= created_at + interval '1 second'
			AND next_at >= created_at + $1::interval + interval '500 milliseconds'
			AND (next_at = created_at + interval '1 second' OR next_at <= clock_timestamp() + interval '500 milliseconds')`, late) != 1 {
			t.Errorf("%s late: the next step is due at another time", late)
		}
		g.exec(`UPDATE replays SET created_at = next_at`)
		n, did, err := g.store.StepReplay(t.Context())
		if due := g.count(`SELECT count(*) FROM replays WHERE created_at <= clock_timestamp()`) > 0; err != nil || !due && (n != 0 || did) {
			t.Errorf("two steps at once: %d, %v, %v", n, did, err)
		}
	}
}

// Many who put letters back, by one and in numbers, put each back once.
func TestReplayByMany(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	const n = 60
	var ids []uuid.UUID
	for i := range n {
		ids = append(ids, g.bury(letter{gate: []string{"", outbox.OrderGate("a"), outbox.OrderGate("b")}[i%3]}))
	}
	for range 2 {
		if _, err := g.store.StartReplay(t.Context(), g.by, g.app.ID, record.DeadLetterFilter{}, 100, false); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if _, _, err := g.store.StepReplay(t.Context()); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			for _, id := range ids {
				var conflict *tenant.Conflict
				if _, err := g.store.Replay(t.Context(), g.by, g.app.ID, id, nil); err != nil && !errors.As(err, &conflict) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got := g.count(`SELECT count(DISTINCT replay_of) FROM outbox`); got != n {
		t.Errorf("%d of %d were put back", got, n)
	}
	if got := g.count(`SELECT count(*) FROM outbox`); got != n {
		t.Errorf("%d entries of %d letters", got, n)
	}
	if got := g.count(`SELECT count(*) FROM outbox WHERE gate_held`); got != 2 {
		t.Errorf("%d are through the two gates", got)
	}
}
