package main

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/outbox"
)

// Whatever dies, what was acknowledged runs, and an attempt is counted before it starts.
func TestCrash(t *testing.T) {
	t.Parallel()
	const (
		entries     = 1000
		maxAttempts = 25
		kills       = 10
	)
	seen := newRecorder(t)
	how := setup{
		command: "serve", data: coretest.DataDir(t), database: coretest.URL(t), recorder: seen,
		args: []string{"--slots", "8"}, // few runs are in progress at a crash, so few must be run alone afterwards
	}
	n := start(t, how)
	n.command("deploy", script(t, "work", `return nil, ctx.Sleep(time.Millisecond)`, "time"),
		"--route", "POST /work", "--async", "--max-attempts", strconv.Itoa(maxAttempts))
	var now atomic.Pointer[instance]
	now.Store(n)

	ctx, stop := context.WithCancel(t.Context())
	posted := make(chan []string)
	go func() { posted <- post(ctx, &now, "/work", entries) }()
	defer stop()
	for i := range kills {
		at := (i + 1) * entries / (kills + 2)
		await(t, "executions are started", func() bool { return seen.started() >= at })
		if i%2 == 0 {
			n.kill()
			n = start(t, how)
			now.Store(n)
			continue
		}
		if err := syscall.Kill(seen.lastEngine(), syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			t.Fatal(err)
		}
	}
	acknowledged := <-posted
	if len(acknowledged) != entries {
		t.Fatalf("%d entries were acknowledged, want %d", len(acknowledged), entries)
	}

	db := connect(t, how.database)
	await(t, "the outbox is empty", func() bool { return count(t, db, `SELECT count(*) FROM outbox`) == 0 })
	ends := finals(t, db)
	for _, id := range acknowledged {
		if len(seen.of(id)) == 0 || ends[id].outcome != outbox.Succeeded {
			t.Errorf("%s was acknowledged and is lost: started as attempts %v, ended as %+v", id, seen.of(id), ends[id])
		}
	}
	seen.checkOnce(t)
	again := 0
	for _, id := range seen.ids() {
		end, attempts := ends[id], seen.of(id)
		if end.records != 1 {
			t.Errorf("%s has %d final records, want 1", id, end.records)
		}
		if last := slices.Max(slices.Collect(maps.Keys(attempts))); last > min(maxAttempts, end.attempt) {
			t.Errorf("%s was started as attempts %v; its record says %d", id, attempts, end.attempt)
		}
		if len(attempts) > 1 {
			again++
		}
	}
	if again == 0 {
		t.Error("no run was cut short: the crashes hit nothing")
	}
}

// post sends requests to an async route, some at a time, until so many were acknowledged, and returns their ids. What is
// refused or cut off is sent anew.
func post(ctx context.Context, to *atomic.Pointer[instance], path string, many int) []string {
	var mu sync.Mutex
	var ids []string
	var left atomic.Int64
	left.Store(int64(many))
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for left.Add(-1) >= 0 {
				id := ""
				for id == "" && ctx.Err() == nil {
					r, err := to.Load().send(http.MethodPost, path, nil)
					if err == nil && r.status == http.StatusAccepted {
						id = field(r.body, "execution_id")
					}
				}
				mu.Lock()
				ids = append(ids, id)
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	return ids
}

// end is how an execution ended.
type end struct {
	records int // final ones
	attempt int
	outcome outbox.Outcome
}

// finals returns the end of every execution that has ended.
func finals(t *testing.T, db *pgx.Conn) map[string]end {
	t.Helper()
	rows, err := db.Query(t.Context(), `
SELECT id, count(*), max(attempt), max(outcome) FROM executions WHERE outcome <> $1 GROUP BY id`, outbox.Retried)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]end{}
	var id uuid.UUID
	var e end
	if _, err := pgx.ForEachRow(rows, []any{&id, &e.records, &e.attempt, &e.outcome}, func() error {
		ends[id.String()] = e
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return ends
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	db, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	return db
}

func count(t *testing.T, db *pgx.Conn, query string, args ...any) int {
	t.Helper()
	var n int
	if err := db.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// An async caller is not told that its request is safe before the database has it.
func TestAcceptedAfterCommit(t *testing.T) {
	t.Parallel()
	seen := newRecorder(t)
	how := setup{command: "serve", data: coretest.DataDir(t), database: coretest.URL(t), recorder: seen}
	n := start(t, how)
	n.command("deploy", script(t, "work", `return nil, nil`), "--route", "POST /work", "--async")

	db := connect(t, how.database)
	exec := func(statement string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	exec(`BEGIN`)
	exec(`LOCK TABLE outbox IN EXCLUSIVE MODE`)
	answered := make(chan reply, 1)
	go func() {
		r, err := n.send(http.MethodPost, "/work", nil)
		if err != nil {
			t.Error(err)
		}
		answered <- r
	}()
	await(t, "the entry waits to be written", func() bool {
		return count(t, db, `SELECT count(*) FROM pg_locks WHERE relation = 'outbox'::regclass AND NOT granted`) > 0
	})
	select {
	case r := <-answered:
		t.Errorf("answered before the commit: %s", r)
		answered <- r
	default:
	}
	exec(`ROLLBACK`)
	r := <-answered
	id := field(r.body, "execution_id")
	if r.status != http.StatusAccepted {
		t.Fatalf("async: %s", r)
	}
	await(t, "the accepted request is run", func() bool { return len(seen.of(id)) == 1 })
	seen.checkOnce(t)
}
