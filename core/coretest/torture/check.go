package torture

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// rule is a statement that finds rows of which there must be none. Those of a rule with patience must not stay.
type rule struct {
	name     string
	patience time.Duration
	sql      string
}

// rules are checked each second, all in one snapshot.
var rules = []rule{
	{"I01 one place: live and final", 0, `
SELECT o.id || ' is live with outcome ' || e.outcome FROM outbox o JOIN executions e ON e.id = o.id WHERE e.outcome <> 2`},
	{"I01 one place: final once", 0, `
SELECT e.id || ' ended more than once' FROM executions e WHERE e.outcome <> 2 AND e.finished_at > now() - interval '5 seconds'
    AND (SELECT count(*) FROM executions x WHERE x.id = e.id AND x.outcome <> 2) > 1`},
	{"I01 one place: dead letter of a record", 0, `
SELECT e.id || ' is recorded as dead and has no letter' FROM executions e
WHERE e.outcome = 3 AND e.finished_at > now() - interval '5 seconds' AND NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.id = e.id)
UNION ALL
SELECT d.id || ' is a dead letter and has no record' FROM dead_letters d
WHERE d.created_at > now() - interval '5 seconds' AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.id = d.id AND e.outcome = 3)
UNION ALL
SELECT d.id || ' is a dead letter and live' FROM dead_letters d JOIN outbox o ON o.id = d.id`},
	{"I03 attempts are bounded", 0, `
SELECT id || ' has attempt ' || attempt || ' of ' || max_attempts FROM outbox WHERE attempt > max_attempts
UNION ALL
SELECT id || ' died after ' || attempts || ' of ' || max_attempts FROM dead_letters WHERE attempts > max_attempts`},
	{"I04 an owner lives", 0, `
SELECT id || ' runs without an owner' FROM outbox WHERE (state = 2) <> (owner IS NOT NULL)`},
	{"I07 no work of the dead", 15 * time.Second, `
SELECT id || ' belongs to the dead epoch ' || owner FROM outbox o
WHERE state = 2 AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.epoch = o.owner)`},
	{"I10 depth and budget", 0, `
SELECT id || ' is ' || depth || ' deep' FROM outbox WHERE depth > 8
UNION ALL
SELECT id || ' led to ' || events || ' events' FROM roots WHERE events > 10000`},
	{"I10 a replay keeps its depth", 0, `
SELECT o.id || ' is ' || o.depth || ' deep, its letter is ' || d.depth FROM outbox o JOIN dead_letters d ON d.id = o.replay_of
WHERE o.depth <> d.depth
UNION ALL
SELECT e.id || ' is ' || e.depth || ' deep, its letter is ' || d.depth FROM executions e JOIN dead_letters d ON d.replayed_as = e.id
WHERE e.depth <> d.depth AND e.finished_at > now() - interval '5 seconds'`},
	{"I12, I13 all of one app", 0, `
SELECT o.id || ' of app ' || o.app || ' aims at a script of ' || s.app FROM outbox o JOIN scripts s ON s.id = o.target WHERE s.app <> o.app
UNION ALL
SELECT o.id || ' of app ' || o.app || ' comes from a route of ' || r.app FROM outbox o JOIN routes r ON r.id = o.trigger WHERE r.app <> o.app`},
	{"gates let no more through than they may", 0, `
SELECT gate || ' is held by ' || count(*) || ', ' || max(gate_limit) || ' may' FROM outbox WHERE gate_held
GROUP BY app, gate HAVING count(*) > max(gate_limit)`},
	{"nobody waits at an open gate", 0, `
SELECT b.id || ' waits at ' || b.gate FROM (SELECT DISTINCT ON (app, gate) * FROM outbox WHERE state = 3 ORDER BY app, gate, gate_seq) b
WHERE (SELECT count(*) FROM outbox h WHERE h.app = b.app AND h.gate = b.gate AND h.gate_held) < b.gate_limit`},
	{"I06 the head of an order holds it", 0, `
SELECT b.id || ' overtook at ' || b.gate FROM outbox b JOIN outbox h ON h.app = b.app AND h.gate = b.gate
WHERE b.gate LIKE 'order/%' AND b.gate_held AND h.state = 3 AND h.gate_seq < b.gate_seq`},
	{"I19 short transactions", 5 * time.Second, `
SELECT pid || ' ' || application_name || ' is ' || state || ': ' || left(query, 80) FROM pg_stat_activity
WHERE xact_start < now() - interval '12 seconds' AND backend_type = 'client backend' AND application_name <> 'torture'`},
}

// watch checks the rules each second until ctx ends.
func (w *World) watch(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	since := map[string]time.Time{} // when what may not stay was seen first
	var conn *pgx.Conn
	defer func() { closeConn(conn) }()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if conn == nil {
			var err error
			if conn, err = w.connect(ctx); err != nil {
				conn = nil
				clear(since) // the server is down: time does not count
				continue
			}
		}
		if err := w.check(ctx, conn, since); err != nil {
			closeConn(conn)
			conn = nil
			clear(since)
			continue
		}
		for _, history := range w.recorder.overdue(longestRun) {
			w.breach("I07 no endless run", history)
		}
	}
}

func closeConn(conn *pgx.Conn) {
	if conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}
}

// check looks at all rules in one snapshot. An error is one of the connection.
func (w *World) check(ctx context.Context, conn *pgx.Conn, since map[string]time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	seen := map[string]bool{}
	for _, r := range rules {
		rows, err := tx.Query(ctx, r.sql)
		if err != nil {
			return w.known(ctx, r, err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return w.known(ctx, r, err)
		}
		for _, text := range found {
			key := r.name + ": " + text
			seen[key] = true
			if _, known := since[key]; !known {
				since[key] = time.Now()
			}
			if time.Since(since[key]) >= r.patience && (r.patience == 0 || w.helped(since[key])) {
				w.breach(r.name, text)
			}
		}
	}
	for key := range since {
		if !seen[key] {
			delete(since, key)
		}
	}
	w.checked.Add(1)
	return nil
}

// known returns an error of a rule if it comes from the connection; one of the statement is a defect of the bench.
func (w *World) known(ctx context.Context, r rule, err error) error {
	if pg := pgError(err); pg != "" && ctx.Err() == nil && pg[:2] != "57" {
		w.breach("the bench", fmt.Sprintf("rule %s: %v", r.name, err))
	}
	return err
}

// helped reports whether a node and the server were well for long enough that what was seen then should be gone.
func (w *World) helped(since time.Time) bool {
	if w.serverDownSince(since.Add(-10 * time.Second)) {
		return false // for ten seconds after its start nobody takes over
	}
	for _, n := range w.nodes {
		if well := n.well(); !well.IsZero() && well.Before(since) {
			return true
		}
	}
	return false
}
