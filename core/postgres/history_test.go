package postgres_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/history"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
)

func TestHistoryUsage(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	store := postgres.NewHistoryStore(r.pool)
	day := time.Now().UTC().Truncate(24 * time.Hour)
	app, script := uuid.New(), uuid.New()
	for i := range 2 {
		total, err := store.Add(t.Context(), history.Tally{
			Usage: []history.Usage{{App: app, Day: day, Bytes: 100, Records: 2, LeftOut: 1}},
			Runs: []history.Runs{
				{App: app, Script: script, Day: day, Outcome: outbox.Succeeded, Attempts: 2, Time: 3 * time.Millisecond},
				{App: app, Script: script, Day: day.AddDate(0, 0, -1), Outcome: outbox.Failed, Attempts: 1},
			},
		})
		r.must(err)
		n := int64(i + 1)
		if len(total) != 1 || !total[0].Day.Equal(day) || total[0].Bytes != 100*n || total[0].Records != 2*n || total[0].LeftOut != n {
			t.Errorf("in all it is %+v", total)
		}
	}
	list, err := store.Usage(t.Context())
	r.must(err)
	if len(list) != 1 || list[0].App != app || list[0].Bytes != 200 || !list[0].Day.Equal(day) {
		t.Errorf("the usage is %+v", list)
	}
	runs, err := store.Runs(t.Context(), app, script)
	r.must(err)
	if len(runs) != 2 || runs[0].Attempts != 4 || runs[0].Time != 6*time.Millisecond || !runs[0].Day.Equal(day) ||
		runs[1].Outcome != outbox.Failed || runs[1].Attempts != 2 {
		t.Errorf("the runs are %+v", runs)
	}
	if runs, err = store.Runs(t.Context(), uuid.New(), script); err != nil || len(runs) != 0 {
		t.Errorf("another app sees %+v, %v", runs, err)
	}
}

// What is left out ends all the same, and leaves nothing.
func TestSettleUnrecorded(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	kept, left, stale := r.entry(outbox.Running), r.entry(outbox.Running), r.entry(outbox.Running)
	r.must(r.insert(here, false, kept, left))
	r.must(r.insert(there, false, stale))
	n, err := r.store.Settle(t.Context(), here, []*outbox.Settlement{
		{Entry: kept, Outcome: outbox.Succeeded, Started: time.Now()},
		{Entry: left, Outcome: outbox.Succeeded, Started: time.Now(), Unrecorded: true},
		{Entry: stale, Outcome: outbox.Succeeded, Started: time.Now(), Unrecorded: true},
	})
	if r.must(err); n != 2 {
		t.Errorf("%d applied", n)
	}
	r.finished(kept)
	r.want(left, "none")
	if r.finals(left) != 0 {
		t.Error("what was left out has a record")
	}
	if r.row(stale) == "none" {
		t.Error("another node's entry was ended")
	}
}

// An answer is kept although there is no record, and only with the end of its entry.
func TestSettleAnswered(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	mine, stale := r.entry(outbox.Running), r.entry(outbox.Running)
	r.must(r.insert(here, false, mine))
	r.must(r.insert(there, false, stale))
	answer := &outbox.Answer{Status: 201, Body: []byte("made")}
	n, err := r.store.Settle(t.Context(), here, []*outbox.Settlement{
		{Entry: mine, Outcome: outbox.Succeeded, Started: time.Now(), Unrecorded: true, Answer: answer},
		{Entry: stale, Outcome: outbox.Succeeded, Started: time.Now(), Unrecorded: true, Answer: answer},
	})
	if r.must(err); n != 1 {
		t.Errorf("%d applied", n)
	}
	results := postgres.NewResultStore(r.pool)
	got, err := results.Get(t.Context(), mine.App, mine.ID)
	r.must(err)
	if got.Answer == nil || got.Answer.Status != 201 || string(got.Answer.Body) != "made" {
		t.Errorf("the answer is %+v", got.Answer)
	}
	if r.want(mine, "none"); r.finals(mine) != 0 {
		t.Error("what was left out has a record")
	}
	if got, err = results.Get(t.Context(), stale.App, stale.ID); err != nil || !got.Pending() {
		t.Errorf("another node's entry has ended: %+v, %v", got, err)
	}
}

// Old days go with their partitions, and what is in the default partition row by row.
func TestHistoryPurge(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	executions, store := postgres.NewExecutionStore(r.pool), postgres.NewHistoryStore(r.pool)
	r.must(executions.Extend(t.Context()))
	today := time.Now().UTC().Truncate(24 * time.Hour)
	for _, ago := range []int{2, 9} {
		day := today.AddDate(0, 0, -ago)
		for _, table := range []string{"executions", "execution_bodies"} {
			r.exec(`CREATE TABLE ` + table + `_` + day.Format("20060102") + ` PARTITION OF ` + table + ` FOR VALUES FROM ('` +
				day.Format(time.RFC3339) + `') TO ('` + day.AddDate(0, 0, 1).Format(time.RFC3339) + `')`)
		}
	}
	for _, ago := range []string{"20 days", "9 days", "2 days", "0 days"} {
		r.exec(`INSERT INTO executions (id, attempt, finished_at, app, script, kind, outcome, event_id, root_id, accepted_at, started_at,
			duration_us, node) SELECT gen_random_uuid(), 1, date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - $1::interval
			+ interval '1 second', gen_random_uuid(), gen_random_uuid(), 1, 1, gen_random_uuid(), gen_random_uuid(), now(), now(), 1, 1`, ago)
	}
	r.exec(`INSERT INTO script_usage SELECT gen_random_uuid(), gen_random_uuid(), (now() AT TIME ZONE 'UTC')::date - d, 1, 1, 1
		FROM unnest(ARRAY[9, 0]) AS d`)
	r.exec(`INSERT INTO history_usage VALUES (gen_random_uuid(), (now() AT TIME ZONE 'UTC')::date - 9, 1, 1, 1),
		(gen_random_uuid(), (now() AT TIME ZONE 'UTC')::date, 1, 1, 1)`)
	dropped, err := store.Purge(t.Context(), 7*24*time.Hour)
	if r.must(err); dropped != 2 {
		t.Errorf("dropped %d partitions", dropped)
	}
	if n := one[int](r, `SELECT count(*) FROM executions`); n != 2 {
		t.Errorf("%d records are left", n)
	}
	if n := one[int](r, `SELECT count(*) FROM history_usage`); n != 1 {
		t.Errorf("the usage of %d days is left", n)
	}
	if n := one[int](r, `SELECT count(*) FROM script_usage`); n != 1 {
		t.Errorf("the runs of %d days are left", n)
	}
	if dropped, err = store.Purge(t.Context(), 7*24*time.Hour); err != nil || dropped != 0 {
		t.Errorf("again it dropped %d, %v", dropped, err)
	}
}

// What a record is taken to need is about what it needs.
func TestRecordSize(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	r.must(postgres.NewExecutionStore(r.pool).Extend(t.Context()))
	const n = 20_000
	keeper, app := history.New(0), r.entry(outbox.Running)
	for range n / 500 {
		var entries []*outbox.Entry
		var batch []*outbox.Settlement
		for range 500 {
			e := r.entry(outbox.Running)
			e.App, e.Lane, e.Target = app.App, app.Lane, app.Target
			x := &outbox.Settlement{Entry: e, Outcome: outbox.Succeeded, Started: time.Now()}
			keeper.Judge(x)
			entries, batch = append(entries, e), append(batch, x)
		}
		r.must(r.insert(here, false, entries...))
		if applied, err := r.store.Settle(t.Context(), here, batch); err != nil || applied != 500 {
			t.Fatal(applied, err)
		}
	}
	took := one[int64](r, `SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits WHERE inhparent = 'executions'::regclass`)
	if counted := keeper.Take().Usage[0].Bytes; took < counted*2/3 || took > counted*3/2 {
		t.Errorf("%d bytes a record, and %d are counted", took/n, counted/n)
	}
}

// A table in which the dead have the upper hand is vacuumed.
func TestVacuum(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	r.exec(`ALTER TABLE outbox SET (autovacuum_enabled = off)`)
	r.exec(`INSERT INTO outbox (id, event_id, app, lane, target, root_id, run_at, accepted_at, timeout_ms, kind, state, max_attempts, envelope)
		SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now(), now(),
		1, 1, 1, 1, '' FROM generate_series(1, 25000)`)
	r.exec(`DELETE FROM outbox`)
	tables := postgres.NewTableStore(r.pool)
	coretest.Eventually(t, "it is vacuumed", func() bool {
		done, err := tables.Vacuum(t.Context())
		r.must(err)
		return len(done) == 1 && done[0] == "outbox"
	})
	coretest.Eventually(t, "no dead rows are left", func() bool {
		return one[int](r, `SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'outbox'`) < 1000
	})
}
