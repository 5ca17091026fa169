package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
)

// The races of the outbox, each forced: what one transaction does between two steps of another. A barrier holds the
// other at the step, which is the database's own work, so no statement is changed for the test.

// races is a database with two live nodes.
type races struct {
	*testing.T
	url   string
	pool  *pgxpool.Pool
	store *postgres.OutboxStore
	keyed *postgres.KeyedStore
	held  *pgxpool.Conn // holds the barriers
}

// The epochs of the two nodes.
const (
	here  = 1_000_001
	there = 1_000_002
)

func newRaces(t *testing.T) *races {
	t.Helper()
	r := &races{T: t, url: coretest.URL(t)}
	// Who is held at a barrier waits for as long as the test takes, on a busy machine, too.
	r.pool = r.open(map[string]string{"lock_timeout": "1min", "statement_timeout": "2min", "idle_in_transaction_session_timeout": "2min"})
	held, err := r.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.held = held
	t.Cleanup(held.Release)
	r.store, r.keyed = postgres.NewOutboxStore(r.pool), postgres.NewKeyedStore(r.pool)
	r.exec(`INSERT INTO nodes (epoch, name) VALUES ($1, 'here'), ($2, 'there')`, here, there)
	r.exec(`CREATE FUNCTION barrier(n int) RETURNS boolean LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_advisory_xact_lock_shared(47, n); RETURN true; END $$`)
	return r
}

func (r *races) open(settings map[string]string) *pgxpool.Pool {
	r.Helper()
	pool, err := postgres.Open(r.Context(), postgres.Config{URL: r.url, Settings: settings}, coretest.Logger(r))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(pool.Close)
	return pool
}

func (r *races) exec(sql string, args ...any) {
	r.Helper()
	if _, err := r.pool.Exec(r.Context(), sql, args...); err != nil {
		r.Fatal(err)
	}
}

// close closes a barrier, and open lets through again who waits there.
func (r *races) close(n int) {
	r.Helper()
	if _, err := r.held.Exec(r.Context(), `SELECT pg_advisory_lock(47, $1)`, n); err != nil {
		r.Fatal(err)
	}
}

func (r *races) release(n int) {
	r.Helper()
	if _, err := r.held.Exec(r.Context(), `SELECT pg_advisory_unlock(47, $1)`, n); err != nil {
		r.Fatal(err)
	}
}

// waiting waits until somebody stands before a barrier.
func (r *races) waiting(n int) {
	r.Helper()
	r.eventually("somebody waits at the barrier", `SELECT EXISTS (SELECT 1 FROM pg_locks
		WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND classid = 47 AND objid = $1 AND NOT granted)`, n)
}

// blocked waits until somebody waits for a row that another transaction has changed.
func (r *races) blocked() {
	r.Helper()
	r.eventually("somebody waits for a row", `SELECT EXISTS (SELECT 1 FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event IN ('transactionid', 'tuple'))`)
}

func (r *races) eventually(what, sql string, args ...any) {
	r.Helper()
	coretest.Eventually(r, what, func() bool { return one[bool](r, sql, args...) })
}

// before has whoever writes a row of the table stop at barrier 1 first.
func (r *races) before(event, table string) {
	r.Helper()
	r.exec(`CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM barrier(1); IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$`)
	r.exec(fmt.Sprintf(`CREATE TRIGGER hold BEFORE %s ON %s FOR EACH ROW EXECUTE FUNCTION hold()`, event, table))
}

func one[T any](r *races, sql string, args ...any) (v T) {
	r.Helper()
	if err := r.pool.QueryRow(r.Context(), sql, args...).Scan(&v); err != nil {
		r.Fatalf("%s: %v", sql, err)
	}
	return v
}

// die ends an epoch, as the eviction by another node does.
func (r *races) die(epoch int64) {
	r.Helper()
	r.exec(`DELETE FROM nodes WHERE epoch = $1`, epoch)
}

func (r *races) entry(state outbox.State) *outbox.Entry {
	id, script := uuid.Must(uuid.NewV7()), uuid.New()
	e := &outbox.Entry{
		ID: id, EventID: id, RootID: id, App: uuid.New(), Lane: script, Target: script, TargetKind: outbox.TargetScript,
		Kind: outbox.KindInvoke, Timeout: time.Minute, MaxAttempts: 5, State: state, Envelope: []byte("e"), Payload: []byte("p"),
	}
	if state == outbox.Running {
		e.Attempt = 1
	}
	return e
}

func (r *races) insert(owner int64, again bool, entries ...*outbox.Entry) error {
	r.Helper()
	store := outbox.Inserter(r.store)
	if entries[0].Keyed() {
		store = r.keyed
	}
	refused, err := store.Insert(r.Context(), owner, entries, again)
	for _, e := range refused {
		if e != nil {
			return e
		}
	}
	return err
}

func (r *races) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// quotas ask for so many of the fresh entries of a lane, and of the others.
func quotas(app, lane uuid.UUID, n int) []outbox.Quota {
	fresh := outbox.LaneKey{App: app, Lane: lane}
	again := fresh
	again.Retry = true
	return []outbox.Quota{{LaneKey: fresh, Count: n}, {LaneKey: again, Count: n}}
}

// claim claims what is ready of the entry's lane.
func (r *races) claim(owner int64, e *outbox.Entry) []*outbox.Entry {
	r.Helper()
	got, err := r.store.Claim(r.Context(), owner, quotas(e.App, e.Lane, 10))
	r.must(err)
	return got
}

func (r *races) settle(owner int64, e *outbox.Entry, outcome outbox.Outcome) int64 {
	r.Helper()
	n, err := r.store.Settle(r.Context(), owner, []*outbox.Settlement{{Entry: e, Outcome: outcome, Started: time.Now()}})
	r.must(err)
	return n
}

func (r *races) sweep() (freed, ended int) {
	r.Helper()
	freed, ended, _, err := r.store.Sweep(r.Context())
	r.must(err)
	return freed, ended
}

// row is where an entry stands.
func (r *races) row(e *outbox.Entry) string {
	r.Helper()
	return one[string](r, `SELECT coalesce((SELECT concat_ws(' ', 'state', state, 'attempt', attempt, 'owner ' || owner)
		FROM outbox WHERE id = $1), 'none')`, e.ID)
}

// finals is how many final records an entry has.
func (r *races) finals(e *outbox.Entry) int {
	r.Helper()
	return one[int](r, `SELECT count(*) FROM executions WHERE id = $1 AND outcome <> 2`, e.ID)
}

func (r *races) want(e *outbox.Entry, row string) {
	r.Helper()
	if got := r.row(e); got != row {
		r.Errorf("the entry is %q, want %q", got, row)
	}
}

// async runs f beside the test.
func async(f func() error) chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// Two sweeps see the same entry of a dead node. One frees it and a live node claims it, before the other comes to lock it:
// the other must see that it has a live owner.
func TestSecondSweepLeavesWhatWasClaimed(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	e := r.entry(outbox.Running)
	r.must(r.insert(here, false, e))
	r.die(here)
	// The row policy is what the sweep asks of each row that it finds, before it locks it.
	r.exec(`CREATE ROLE sweeper_` + one[string](r, `SELECT current_database()`))
	role := "sweeper_" + one[string](r, `SELECT current_database()`)
	r.Cleanup(func() {
		_, _ = r.pool.Exec(context.Background(), `DROP OWNED BY `+role+`; DROP ROLE `+role)
	})
	r.exec(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ` + role)
	r.exec(`ALTER TABLE outbox ENABLE ROW LEVEL SECURITY`)
	r.exec(`CREATE FUNCTION found() RETURNS boolean LANGUAGE plpgsql AS $$
		BEGIN IF current_query() LIKE '%SKIP LOCKED%' THEN PERFORM barrier(1); END IF; RETURN true; END $$`)
	r.exec(`CREATE POLICY hold ON outbox USING (found())`)
	slow := postgres.NewOutboxStore(r.open(map[string]string{"role": role}))

	r.close(1)
	var freed int
	done := async(func() (err error) { freed, _, _, err = slow.Sweep(context.Background()); return err })
	r.waiting(1)
	if freed, _ := r.sweep(); freed != 1 {
		t.Fatalf("the first sweep freed %d", freed)
	}
	if got := r.claim(there, e); len(got) != 1 {
		t.Fatalf("claimed %d", len(got))
	}
	r.release(1)
	r.must(<-done)
	if freed != 0 {
		t.Errorf("the second sweep freed %d", freed)
	}
	r.want(e, fmt.Sprint("state 2 attempt 2 owner ", there))
}

// A node is evicted while it settles, between the answer that it keeps and the end of the entry: neither may stay alone.
func TestAnswerOfALostNodeIsNotKept(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	e := r.entry(outbox.Running)
	e.KeepAnswer = true
	r.must(r.insert(here, false, e))
	r.before("INSERT", "results")
	r.close(1)
	var applied int64
	done := async(func() (err error) {
		applied, err = r.store.Settle(context.Background(), here, []*outbox.Settlement{{
			Entry: e, Outcome: outbox.Succeeded, Started: time.Now(), Answer: &outbox.Answer{Status: 200, Body: []byte("first")},
		}})
		return err
	})
	r.waiting(1)
	evicted := async(func() error {
		_, err := r.pool.Exec(context.Background(), `DELETE FROM nodes WHERE epoch = $1`, here)
		return err
	})
	// Either the eviction waits for the settlement, or the settlement finds that it came too late.
	coretest.Eventually(t, "the eviction is through or waits", func() bool {
		select {
		case err := <-evicted:
			evicted <- nil
			return err == nil
		default:
			return one[bool](r, `SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
				AND query LIKE 'DELETE FROM nodes%' AND wait_event_type = 'Lock')`)
		}
	})
	r.release(1)
	r.must(<-done)
	r.must(<-evicted)
	kept := one[int64](r, `SELECT count(*) FROM results WHERE id = $1`, e.ID)
	if kept != applied {
		t.Errorf("%d answers are kept of %d settlements", kept, applied)
	}

	e = r.entry(outbox.Running)
	e.KeepAnswer = true
	r.must(r.insert(there, false, e))
	_, err := r.store.Settle(t.Context(), there, []*outbox.Settlement{{
		Entry: e, Outcome: outbox.Succeeded, Started: time.Now(), Answer: &outbox.Answer{Status: 200, Body: []byte("kept")},
	}})
	r.must(err)
	if body := one[string](r, `SELECT convert_from(body, 'UTF8') FROM results WHERE id = $1`, e.ID); body != "kept" {
		t.Errorf("the answer of a live node is %q", body)
	}
}

// A release is repeated because its answer was lost, after the entry was claimed again by the same node: the repeat must
// not touch the new claim.
func TestRepeatedReleaseLeavesTheNextClaim(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	e := r.entry(outbox.Ready)
	r.must(r.insert(here, false, e))
	first := r.claim(here, e)[0]
	release := []*outbox.Settlement{{Entry: first, Outcome: outbox.Retried, Uncharged: true, Started: time.Now()}}
	if n, err := r.store.Settle(t.Context(), here, release); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	second := r.claim(here, e)
	if len(second) != 1 {
		t.Fatalf("claimed %d", len(second))
	}
	before := r.row(e)
	if n, err := r.store.Settle(t.Context(), here, release); err != nil || n != 0 {
		t.Errorf("the repeat applied to %d, %v", n, err)
	}
	r.want(e, before)
}
