package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/picloud/picloud/core/outbox"
)

func pgError(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// healLimit is when everything must be quiet after the last fault.
const healLimit = time.Minute

// heal waits until nothing is left to do, and says what is if that takes too long.
func (w *World) heal(ctx context.Context) error {
	began := time.Now()
	for _, n := range w.nodes {
		n.proxy.Heal()
		if n.now() == nil {
			if err := n.start(ctx, ""); err != nil {
				return err
			}
		}
		if err := n.arm(""); err != nil {
			return err
		}
	}
	var conn *pgx.Conn
	defer func() { closeConn(conn) }()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		left := ""
		var err error
		if conn == nil {
			conn, err = w.connect(ctx)
		}
		if err == nil {
			left, err = w.unquiet(ctx, conn)
		}
		switch {
		case err != nil:
			closeConn(conn)
			conn = nil
			left = err.Error() // the server may still hold connections of clients that are gone
		case left == "":
			w.figures.add(figureHeal, time.Since(began))
			return nil
		}
		if time.Since(began) > healLimit {
			w.breach("quiet after the faults", left)
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// unquiet says what is not yet as it must be at last: L1, L3, L8, L9 and no orphans. Empty: all is well.
func (w *World) unquiet(ctx context.Context, conn *pgx.Conn) (string, error) {
	for _, c := range []struct{ what, sql string }{
		{"L1 entries", `SELECT json_agg(o)::text FROM (SELECT id, state, owner, attempt, max_attempts, node_losses, engine_losses, run_at, gate, last_error FROM outbox LIMIT 5) o`},
		{"L3 epochs", fmt.Sprintf(`SELECT json_agg(n)::text FROM nodes n HAVING count(*) <> %d OR count(DISTINCT name) <> count(*)`, len(w.nodes))},
		{"L3 heartbeats", `SELECT json_agg(n)::text FROM nodes n WHERE beat_at < clock_timestamp() - interval '2500 milliseconds'`},
		{"L8 advisory locks", fmt.Sprintf(`SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' HAVING count(*) <> %d`, len(w.nodes))},
		{"L8 idle transactions", `SELECT string_agg(query, '; ') FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND application_name <> 'torture'`},
		{"L8 prepared transactions", `SELECT string_agg(gid, '; ') FROM pg_prepared_xacts`},
		{"L9 invalid indexes", `SELECT string_agg(indexrelid::regclass::text, '; ') FROM pg_index WHERE NOT indisvalid`},
	} {
		var text *string
		err := conn.QueryRow(ctx, c.sql).Scan(&text)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return "", fmt.Errorf("%s: %w", c.what, err)
		}
		if text != nil {
			return c.what + ": " + *text, nil
		}
	}
	ours := map[int]bool{}
	for _, n := range w.nodes {
		if l := n.now(); l != nil {
			ours[l.pid] = true
		}
	}
	for pid, parent := range engineProcesses(w.url) {
		if !ours[parent] {
			return fmt.Sprintf("I20 orphans: the engine %d lives, its node %d does not", pid, parent), nil
		}
	}
	return "", nil
}

// record is the end of an entry in the database.
type record struct {
	outcome  outbox.Outcome
	attempt  int
	reason   string
	finished time.Time
	times    int
}

// judge compares what clients, the recorder and the database know. Nothing runs any more.
func (w *World) judge(ctx context.Context) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if err := w.check(ctx, conn, map[string]time.Time{}); err != nil {
		return err
	}
	ends, err := records(ctx, conn)
	if err != nil {
		return err
	}
	known := map[string]*Op{}
	attempted := map[string]bool{}
	for _, o := range w.journal.all() {
		for c := &o.Command; c != nil; c = c.Child {
			attempted[c.Nonce] = true
		}
		w.counts[o.Result]++
		if o.ID != "" {
			known[o.ID] = o
		}
		w.judgeOp(o, ends[o.ID])
	}
	if err := w.judgeTransfers(ctx, conn, ends); err != nil {
		return err
	}
	for _, id := range w.recorder.sentIDs() {
		w.counts["sent by scripts"]++
		if ends[id].times == 0 {
			w.breach("L2 acknowledged is final", fmt.Sprintf("%s was sent by a script and has no end", id))
		}
	}
	for _, id := range w.recorder.ids() {
		w.judgeRuns(id, w.recorder.of(id), ends[id], attempted)
	}
	for id, end := range ends {
		if end.times > 1 {
			w.breach("I01 one place: final once", fmt.Sprintf("%s ended %d times", id, end.times))
		}
		w.counts["ended as "+outcomeNames[end.outcome]]++
		if end.reason == outbox.ReasonPoison {
			w.saw("a poison park")
		}
	}
	w.judgeRetries()
	w.figures.settle(w.recorder, func(fault int, from, to time.Time) bool {
		return w.calm(from, to, fault) && !w.disturbed(from, to)
	})
	return w.judgeStats()
}

var outcomeNames = map[outbox.Outcome]string{
	outbox.Succeeded: "succeeded", outbox.DeadLettered: "dead", outbox.Cancelled: "cancelled", outbox.Expired: "expired",
	outbox.Stopped: "stopped", outbox.HandlerFailed: "handler failed", outbox.Abandoned: "abandoned", outbox.Failed: "failed",
}

func records(ctx context.Context, conn *pgx.Conn) (map[string]record, error) {
	rows, err := conn.Query(ctx, `
SELECT id, max(outcome), max(attempt), max(reason), max(finished_at), count(*) FROM executions WHERE outcome <> 2 GROUP BY id`)
	if err != nil {
		return nil, err
	}
	ends := map[string]record{}
	var id uuid.UUID
	var r record
	_, err = pgx.ForEachRow(rows, []any{&id, &r.outcome, &r.attempt, &r.reason, &r.finished, &r.times}, func() error {
		ends[id.String()] = r
		return nil
	})
	return ends, err
}

// judgeOp checks what a client was told against what is recorded.
func (w *World) judgeOp(o *Op, end record) {
	seen := o.ID != "" && len(w.recorder.of(o.ID)) > 0
	switch {
	case o.Sync && o.Result == acknowledged && !seen:
		w.breach("answers come from runs", o.Nonce)
	case o.Sync:
	case o.Result == acknowledged && end.times == 0:
		w.breach("L2 acknowledged is final", fmt.Sprintf("%s was acknowledged by node %d at %s and has no end; seen: %v", o.ID, o.Node,
			o.Sent.Format("05.000"), seen))
	case o.Result == acknowledged && end.outcome == outbox.Succeeded && !seen:
		w.breach("L2 acknowledged is seen", fmt.Sprintf("%s succeeded and no run was seen", o.ID))
	case o.Result == refused && (seen || end.times > 0):
		w.counts["refused and yet run"]++
		if !o.Sync && !o.Once && o.Said != "" { // it was asked once, and told
			w.breach("a refusal is definite", o.ID+" was refused and runs")
		}
		w.t.Logf("refused and yet run: %s: %d %s: %s, %s for %q", o.ID, o.Status, strings.TrimSpace(o.Said), w.recorder.tell(o.ID), outcomeNames[end.outcome], end.reason)
	case o.Result == acknowledged:
		w.judgeEnd(o, end)
	}
	if n := w.recorder.entries(o.Nonce); o.Once && n > 1 {
		w.breach("I15 one key, one execution", fmt.Sprintf("%s ran as %d entries", o.Nonce, n))
	}
}

// judgeEnd checks that a command ended as it had to.
func (w *World) judgeEnd(o *Op, end record) {
	doomed := o.Fail < 0 || o.Fatal || o.Exit < 0 || o.Hang < 0 || o.FailEntry
	c, cancelled := w.cancels[o.ID]
	switch {
	case cancelled && c.ended && end.outcome != outbox.Cancelled:
		w.breach("cancelled is cancelled", fmt.Sprintf("%s: %+v", o.ID, end))
	case cancelled && end.outcome == outbox.Cancelled:
		w.saw("a run cancelled")
		for _, run := range w.recorder.of(o.ID) {
			if c.ended && run.Began.After(c.at) {
				w.breach("cancelled is cancelled", fmt.Sprintf("%s started after it: %s", o.ID, w.recorder.tell(o.ID)))
			}
		}
	case cancelled:
	case o.Bounce != "" && end.outcome == outbox.Cancelled && end.reason == "superseded":
		w.saw("a debounced message replaced")
	case o.Replay && end.outcome == outbox.Succeeded:
		w.saw("a dead letter replayed to success")
	case o.Replay && end.outcome == outbox.DeadLettered: // the faults took all its attempts
	case doomed && end.outcome != outbox.DeadLettered:
		w.breach("what fails for good is a dead letter", fmt.Sprintf("%s: %+v", o.ID, end))
	case doomed:
		w.saw("a dead letter")
	case end.outcome == outbox.DeadLettered && o.App == "default" && o.Script == "work" &&
		end.reason != outbox.ReasonPoison && end.reason != "node_lost": // it has lost ten nodes
		w.breach("what can succeed does", fmt.Sprintf("%s: %+v", o.ID, end))
	case end.outcome != outbox.Succeeded && end.outcome != outbox.DeadLettered:
		w.breach("what can succeed does", fmt.Sprintf("%s: %+v", o.ID, end))
	case end.attempt > 3:
		w.saw("a retry after more than three attempts")
	}
}

// recordSlack is what two clocks of one machine may differ by, and a transaction's own time be older than its commit.
const recordSlack = 100 * time.Millisecond

// judgeRuns checks what was seen of an entry against its record.
func (w *World) judgeRuns(id string, runs []Run, end record, attempted map[string]bool) {
	if !attempted[runs[0].Nonce] {
		w.breach("nothing unexpected", id)
	}
	if end.times == 0 {
		if runs[0].Sync {
			w.counts["sync runs without a record"]++ // written with synchronous_commit off: a crash of Postgres may take it
			return
		}
		w.breach("L2 what began has ended", w.recorder.tell(id))
		return
	}
	succeeded := 0
	for i, run := range runs {
		if run.Outcome == endOK && run.Transfer == nil {
			succeeded++
		}
		if run.Attempt > end.attempt {
			w.breach("I03 starts are counted", fmt.Sprintf("%s ended with attempt %d: %s", id, end.attempt, w.recorder.tell(id)))
		}
		if i == len(runs)-1 && end.outcome == outbox.Succeeded && run.Attempt == end.attempt &&
			(run.Outcome != endOK || run.Ended.After(end.finished.Add(recordSlack))) {
			w.breach("a record is of the run that ended", fmt.Sprintf("%s is recorded at %s: %s", id,
				end.finished.Local().Format("05.000"), w.recorder.tell(id)))
		}
	}
	if len(runs) > 1 {
		w.counts["started more than once"]++
	}
	if succeeded > 1 {
		w.counts["duplicates"]++
		w.saw("a duplicate delivered")
	}
}

// judgeRetries checks that entries which fail together do not come back together: of waits that are drawn from a second,
// half are shorter than half a second.
func (w *World) judgeRetries() {
	const enough = 40
	all, early := 0, 0
	for _, id := range w.recorder.ids() {
		runs := w.recorder.of(id)
		if len(runs) < 2 || runs[0].Fail <= 0 || runs[0].RetryAfter > 0 || runs[0].Order != "" ||
			runs[0].Outcome != endFailed || runs[1].Attempt != 2 {
			continue
		}
		all++
		if runs[1].Began.Sub(runs[0].Ended) < 500*time.Millisecond {
			early++
		}
	}
	w.counts["first retries"], w.counts["first retries within half a second"] = all, early
	if all >= enough && early < all/10 && w.startDelay() < 200*time.Millisecond {
		w.breach("F41 retries are spread", fmt.Sprintf("%d of %d first retries came within half a second", early, all))
	}
}

// startDelay is how long half of the requests waited for their first run at least.
func (w *World) startDelay() time.Duration {
	var delays []time.Duration
	for _, o := range w.journal.all() {
		if runs := w.recorder.of(o.ID); len(runs) > 0 {
			delays = append(delays, runs[0].Began.Sub(o.Sent))
		}
	}
	slices.Sort(delays)
	return delays[len(delays)/2]
}

// judgeStats checks that nodes hold nothing any more.
func (w *World) judgeStats() error {
	w.client.CloseIdleConnections()
	for _, n := range w.nodes {
		var s nodeStats
		text := n.ask("/stats")
		if err := json.Unmarshal(text, &s); err != nil {
			return fmt.Errorf("stats of %s: %w", n.setup.Name, err)
		}
		if s.Waiters > 200 { // each has two objects
			w.breach("I20 nothing is held", fmt.Sprintf("node %s: about %d parts of waiters, and nobody waits", n.setup.Name, s.Waiters))
		}
		if s.Goroutines > 400 || s.Files > 200 {
			w.breach("I20 nothing is held", fmt.Sprintf("node %s: %+v\n%.8000s", n.setup.Name, s, n.ask("/stacks")))
		}
	}
	return nil
}
