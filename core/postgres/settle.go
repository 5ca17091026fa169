package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/sdk/event"
)

// The parts of the settlements' statements: the attempts to end, in arrays, of which some statements have more; the fence,
// by which a row is touched only while it belongs to the same claim of the same epoch and that epoch is live; and what
// is kept. Everything that is needed later is returned by the one DELETE or UPDATE, so that no statement joins twice.
const (
	settleArrays = `$2::uuid[], $3::int[], $4::smallint[], $5::int[], $6::smallint[], $7::timestamptz[], $8::bigint[],
        $9::text[], $10::text[], $11::text[]`
	settleNames = `id, claim, outcome, version, status, started, duration, reason, error, fault`

	settleBodyArrays = `, $12::boolean[], $13::bytea[], $14::bytea[], $15::bytea[]`
	settleBodyNames  = `, keep, body, response, logs`

	// owner + 0 keeps the planner to the primary key: the index on owner holds every dead row of this node too. ANY keeps it
	// from walking over the whole of that, in the order of a join: it came to prefer that when a vacuum had found the table
	// empty, and a settlement of 500 took 1.5 s instead of 20 ms until the next one.
	settleFence = `o.id = ANY (ARRAY[x.id]) AND o.claims = x.claim AND o.owner + 0 = $1 AND o.state + 0 = 2
        AND EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)`

	settleReturns = `o.id, o.attempt, o.app, o.target, o.trigger, o.kind, o.depth, o.event_id, o.root_id, o.accepted_at,
        x.outcome, x.version, x.status, x.started, x.duration, x.reason, x.error, x.fault`
	settleBodyReturns = `, o.envelope, o.payload, x.keep, x.body, x.response, x.logs`

	settleRecord = `
INSERT INTO executions (id, attempt, finished_at, app, script, version, trigger, kind, outcome, reason, status, depth,
    event_id, root_id, accepted_at, started_at, duration_us, node, error, fault)
SELECT id, attempt, now(), app, target, version, trigger, kind, outcome, reason, status, depth,
    event_id, root_id, accepted_at, started, duration, $1, error, fault
FROM g`
	settleBodies = `, b AS (
    INSERT INTO execution_bodies (id, attempt, finished_at, app, envelope, payload, response, logs)
    SELECT id, attempt, now(), app, CASE WHEN keep THEN envelope END, CASE WHEN keep THEN body END, response, logs
    FROM g WHERE keep OR logs IS NOT NULL OR response IS NOT NULL
)`
)

// sqlSettlePlain ends attempts that leave nothing but their record: one index look-up, one delete and one insert a row.
const sqlSettlePlain = `
WITH g AS (
    DELETE FROM outbox o USING unnest(` + settleArrays + `) AS x (` + settleNames + `)
    WHERE ` + settleFence + `
    RETURNING ` + settleReturns + `
)` + settleRecord

// sqlSettleUnrecorded ends attempts that leave nothing.
const sqlSettleUnrecorded = `
DELETE FROM outbox o USING unnest($2::uuid[], $3::int[]) AS x (id, claim) WHERE ` + settleFence

// sqlSettleAnswered ends attempts that leave nothing but their answer.
const sqlSettleAnswered = `
WITH g AS (` + sqlSettleUnrecorded + `
    RETURNING o.id
)
INSERT INTO results (id, app, status, headers, body, kind, error, expires_at)
SELECT id, app, status, headers, body, kind, error, ` + settleKept + `
FROM g JOIN unnest($2::uuid[], $4::uuid[], $5::smallint[], $6::jsonb[], $7::bytea[], $8::text[], $9::text[])
    AS x (id, app, status, headers, body, kind, error) USING (id)
ON CONFLICT (id) DO NOTHING`

// settleKept is until when an answer is kept.
const settleKept = `clock_timestamp() + interval '24 hours'`

// sqlSettleBodies ends attempts that leave logs, or their input and answer.
const sqlSettleBodies = `
WITH g AS (
    DELETE FROM outbox o USING unnest(` + settleArrays + settleBodyArrays + `) AS x (` + settleNames + settleBodyNames + `)
    WHERE ` + settleFence + `
    RETURNING ` + settleReturns + settleBodyReturns + `
)` + settleBodies + settleRecord

// sqlSettleDead moves entries to the dead letters.
const sqlSettleDead = `
WITH g AS (
    DELETE FROM outbox o USING unnest(` + settleArrays + settleBodyArrays + `, $16::text[])
        AS x (` + settleNames + settleBodyNames + `, cause)
    WHERE ` + settleFence + `
    RETURNING ` + settleReturns + settleBodyReturns + `, o.lane, o.target_kind, o.replay_of, o.principal, o.priority,
        o.max_attempts, o.timeout_ms, o.backoff, o.gate, o.gate_limit, o.rate_key, x.cause
), d AS (
    INSERT INTO dead_letters (id, event_id, app, lane, target, target_kind, trigger, root_id, replay_of, principal, kind,
        priority, attempts, max_attempts, depth, timeout_ms, backoff, gate, gate_limit, rate_key, reason, error, fault, cause,
        version, envelope, payload, accepted_at)
    SELECT id, event_id, app, lane, target, target_kind, trigger, root_id, replay_of, principal, kind, priority, attempt,
        max_attempts, depth, timeout_ms, backoff, gate, gate_limit, rate_key, reason, error, fault, cause, version, envelope,
        payload, accepted_at
    FROM g
)` + settleBodies + settleRecord

// sqlSettleRetry puts entries back for another attempt. An ordering gate stays held; others are passed anew when the
// entry is due. What was debounced has had its turn: it is tried again beside a newer one that waits, which does not replace
// it.
const sqlSettleRetry = `
WITH g AS (
    UPDATE outbox o SET state = ` + settleAgain + `, owner = NULL, gate_held = ` + settleHeld + `, retry = true,
        debounce = NULL,
        run_at = clock_timestamp() + x.delay * interval '1 millisecond',
        engine_losses = o.engine_losses + CASE WHEN x.lost THEN 1 ELSE 0 END, last_error = x.error
    FROM unnest(` + settleArrays + settleBodyArrays + `, $16::bigint[], $17::boolean[])
        AS x (` + settleNames + settleBodyNames + `, delay, lost)
    WHERE ` + settleFence + `
    RETURNING ` + settleReturns + settleBodyReturns + `
)` + settleBodies + settleRecord

// sqlSettleRelease gives entries back that were not started: their attempt is not charged and leaves no record.
const sqlSettleRelease = `
UPDATE outbox o SET state = ` + settleAgain + `, owner = NULL, gate_held = ` + settleHeld + `, attempt = o.attempt - 1,
    debounce = NULL,
    run_at = CASE WHEN x.delay <= 0 THEN o.run_at ELSE clock_timestamp() + x.delay * interval '1 millisecond' END,
    last_error = coalesce(nullif(x.error, ''), o.last_error)
FROM unnest($2::uuid[], $3::int[], $4::bigint[], $5::text[]) AS x (id, claim, delay, error)
WHERE ` + settleFence

// sqlSettleLost leaves entries to the sweep, like those of a node that died: no epoch is 0.
const sqlSettleLost = `
UPDATE outbox o SET owner = 0 FROM unnest($2::uuid[], $3::int[]) AS x (id, claim) WHERE ` + settleFence

// Where an entry goes that is to run again, and whether it stays through its gate meanwhile.
const (
	settleHeld  = `o.gate_held AND (x.delay <= 0 OR o.gate LIKE 'order/%')`
	settleAgain = `CASE WHEN x.delay <= 0 THEN 1 ELSE 0 END`
)

// What ends with an entry beside its row is written last, for those attempts that the same transaction has recorded: the
// epoch may be lost between two statements, and then the first would stand alone.
const (
	settleRecorded = `EXISTS (SELECT 1 FROM executions e WHERE e.id = x.id AND e.attempt = x.attempt AND e.finished_at = now()
        AND e.node = $1 AND e.outcome <> 2)`

	sqlSettleAnswers = `
INSERT INTO results (id, app, status, headers, body, kind, error, expires_at)
SELECT id, app, status, headers, body, kind, error, ` + settleKept + `
FROM unnest($2::uuid[], $3::smallint[], $4::uuid[], $5::smallint[], $6::jsonb[], $7::bytea[], $8::text[], $9::text[])
    AS x (id, attempt, app, status, headers, body, kind, error)
WHERE ` + settleRecorded + `
ON CONFLICT (id) DO NOTHING`

	// A letter whose handler failed stays open; the word is for whoever looks at it.
	sqlSettleHandlers = `
UPDATE dead_letters d SET resolution = CASE WHEN x.handled THEN 'handled_by_script' ELSE 'handler_failed' END,
    resolved_at = CASE WHEN x.handled THEN clock_timestamp() END
FROM unnest($2::uuid[], $3::smallint[], $4::uuid[], $5::boolean[]) AS x (id, attempt, handler_for, handled)
WHERE d.id = x.handler_for AND d.resolved_at IS NULL AND ` + settleRecorded
)

// settling is what ends a batch of attempts: statements, of which the first touch the rows of the entries, and the gates that have to be
// locked before and filled afterwards.
type settling struct {
	statements pgx.Batch
	rows       int
	gates      []gateKey
}

// Settle ends a batch of attempts in one transaction and returns how many still belonged to owner.
func (s *OutboxStore) Settle(ctx context.Context, owner int64, batch []*outbox.Settlement) (applied int64, err error) {
	if isPlainEnd(batch) { // the hot path needs no pipeline
		tag, err := s.pool.Exec(ctx, sqlSettlePlain, settleArgs(owner, batch)...)
		if err != nil {
			return 0, fmt.Errorf("settle entries: %w", rejected(err))
		}
		return tag.RowsAffected(), nil
	}
	x, err := newSettling(owner, batch)
	if err != nil {
		return 0, err
	}
	if x.gates == nil {
		return settleBatch(ctx, s.pool, &x.statements, x.rows)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := lockGates(ctx, tx, x.gates); err != nil {
			return err
		}
		if applied, err = settleBatch(ctx, tx, &x.statements, x.rows); err != nil {
			return err
		}
		_, err := fillGates(ctx, tx, x.gates)
		return err
	})
	return applied, err
}

// isPlainEnd reports whether all that a batch leaves are records without bodies.
func isPlainEnd(batch []*outbox.Settlement) bool {
	for _, x := range batch {
		if x.Lost || x.Outcome == outbox.DeadLettered || x.Uncharged || x.Outcome == outbox.Retried || x.Unrecorded || x.Logs != nil ||
			x.Response != nil || x.KeepInput || x.Answer != nil || x.Entry.HandlerFor != uuid.Nil || x.Entry.Gate != "" {
			return false
		}
	}
	return true
}

// newSettling arranges the end of a batch.
func newSettling(owner int64, batch []*outbox.Settlement) (*settling, error) {
	var plain, unrecorded, answered, bodies, dead, again, release, lost, answers, handlers []*outbox.Settlement
	var gates []gateKey
	for _, x := range batch {
		if x.Lost {
			lost = append(lost, x)
			continue
		}
		switch {
		case x.Outcome == outbox.DeadLettered:
			dead = append(dead, x)
		case x.Uncharged:
			release = append(release, x)
		case x.Outcome == outbox.Retried:
			again = append(again, x)
		case x.Unrecorded && x.Answer != nil:
			answered = append(answered, x)
		case x.Unrecorded:
			unrecorded = append(unrecorded, x)
		case x.Logs != nil || x.Response != nil || x.KeepInput:
			bodies = append(bodies, x)
		default:
			plain = append(plain, x)
		}
		if x.Answer != nil && !x.Unrecorded {
			answers = append(answers, x)
		}
		if x.Entry.HandlerFor != uuid.Nil && x.Outcome != outbox.Retried {
			handlers = append(handlers, x)
		}
		if x.Entry.Gate != "" {
			gates = append(gates, gateKey{x.Entry.App, x.Entry.Gate})
		}
	}
	s := &settling{}
	q := &s.statements
	if len(unrecorded) > 0 {
		q.Queue(sqlSettleUnrecorded, claimArgs(owner, unrecorded)...)
	}
	if len(answered) > 0 {
		args, err := answerArgs(answered)
		if err != nil {
			return nil, err
		}
		q.Queue(sqlSettleAnswered, append(claimArgs(owner, answered), args...)...)
	}
	if len(plain) > 0 {
		q.Queue(sqlSettlePlain, settleArgs(owner, plain)...)
	}
	if len(bodies) > 0 {
		q.Queue(sqlSettleBodies, append(settleArgs(owner, bodies), bodyArgs(bodies)...)...)
	}
	if len(dead) > 0 {
		q.Queue(sqlSettleDead, append(append(settleArgs(owner, dead), bodyArgs(dead)...), causes(dead))...)
	}
	if len(again) > 0 {
		q.Queue(sqlSettleRetry, append(append(settleArgs(owner, again), bodyArgs(again)...), retryArgs(again)...)...)
	}
	if len(release) > 0 {
		q.Queue(sqlSettleRelease, releaseArgs(owner, release)...)
	}
	if len(lost) > 0 {
		q.Queue(sqlSettleLost, claimArgs(owner, lost)...)
	}
	s.rows = q.Len()
	if len(answers) > 0 {
		args, err := answerArgs(answers)
		if err != nil {
			return nil, err
		}
		ids, attempts := attemptKeys(answers)
		q.Queue(sqlSettleAnswers, append([]any{owner, ids, attempts}, args...)...)
	}
	if len(handlers) > 0 {
		q.Queue(sqlSettleHandlers, handlerArgs(owner, handlers)...)
	}
	if gates != nil {
		s.gates = gateKeys(gates)
	}
	return s, nil
}

// settleBatch runs the statements of a settlement and counts the rows of the first ones; the others write beside those.
func settleBatch(ctx context.Context, db interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}, q *pgx.Batch, rows int,
) (applied int64, err error) {
	results := db.SendBatch(ctx, q)
	defer func() {
		if e := results.Close(); e != nil && err == nil {
			err = fmt.Errorf("settle entries: %w", rejected(e))
		}
	}()
	for i := range q.Len() {
		tag, err := results.Exec()
		if err != nil {
			return 0, fmt.Errorf("settle entries: %w", rejected(err))
		}
		if i < rows {
			applied += tag.RowsAffected()
		}
	}
	return applied, nil
}

// answerArgs are the columns of answers but for their ids.
func answerArgs(batch []*outbox.Settlement) ([]any, error) {
	n := len(batch)
	apps, statuses := make([][16]byte, n), make([]int16, n)
	headers, bodies := make([]string, n), make([][]byte, n)
	kinds, errs := make([]string, n), make([]string, n)
	for i, x := range batch {
		list := x.Answer.Headers
		if list == nil {
			list = []event.Header{}
		}
		encoded, err := json.Marshal(list)
		if err != nil {
			return nil, fmt.Errorf("encode headers: %w", err)
		}
		apps[i], statuses[i] = x.Entry.App, int16(x.Answer.Status)
		headers[i], bodies[i], kinds[i], errs[i] = clean(string(encoded)), x.Answer.Body, clean(x.Answer.Kind), clean(x.Answer.Error)
	}
	return []any{apps, statuses, headers, bodies, kinds, errs}, nil
}

func handlerArgs(owner int64, batch []*outbox.Settlement) []any {
	n := len(batch)
	letters, handled := make([][16]byte, n), make([]bool, n)
	for i, x := range batch {
		letters[i], handled[i] = x.Entry.HandlerFor, x.Outcome == outbox.Succeeded
	}
	ids, attempts := attemptKeys(batch)
	return []any{owner, ids, attempts, letters, handled}
}

// attemptKeys are the ids and numbers of attempts.
func attemptKeys(batch []*outbox.Settlement) ([][16]byte, []int16) {
	ids, attempts := make([][16]byte, len(batch)), make([]int16, len(batch))
	for i, x := range batch {
		ids[i], attempts[i] = x.Entry.ID, int16(x.Entry.Attempt)
	}
	return ids, attempts
}

func causes(batch []*outbox.Settlement) []string {
	out := make([]string, len(batch))
	for i, x := range batch {
		out[i] = x.Cause
	}
	return out
}

func claimArgs(owner int64, batch []*outbox.Settlement) []any {
	ids, claims := make([][16]byte, len(batch)), make([]int32, len(batch))
	for i, x := range batch {
		ids[i], claims[i] = x.Entry.ID, int32(x.Entry.Claims)
	}
	return []any{owner, ids, claims}
}

func settleArgs(owner int64, batch []*outbox.Settlement) []any {
	n := len(batch)
	ids := make([][16]byte, n)
	outcomes, statuses := make([]int16, n), make([]int16, n)
	claims, versions, started, durations := make([]int32, n), make([]int32, n), make([]time.Time, n), make([]int64, n)
	text := make([]string, 3*n)
	reasons, errs, faults := text[:n:n], text[n:2*n:2*n], text[2*n:]
	for i, x := range batch {
		ids[i], claims[i], outcomes[i], statuses[i] = x.Entry.ID, int32(x.Entry.Claims), int16(x.Outcome), int16(x.Status)
		versions[i], started[i], durations[i] = int32(x.Version), x.Started, x.Duration.Microseconds()
		reasons[i], errs[i], faults[i] = clean(x.Reason), clean(x.Error), clean(x.Fault)
	}
	return []any{owner, ids, claims, outcomes, versions, statuses, started, durations, reasons, errs, faults}
}

// keptBytes bounds what a record keeps of an input or an answer. A dead letter keeps its whole input for the replay.
const keptBytes = 256 << 10

func bodyArgs(batch []*outbox.Settlement) []any {
	n := len(batch)
	keep := make([]bool, n)
	payloads, responses, logs := make([][]byte, n), make([][]byte, n), make([][]byte, n)
	for i, x := range batch {
		keep[i], logs[i] = x.KeepInput, x.Logs
		if x.KeepInput && len(x.Entry.Payload) <= keptBytes {
			payloads[i] = x.Entry.Payload
		}
		if len(x.Response) <= keptBytes {
			responses[i] = x.Response
		}
	}
	return []any{keep, payloads, responses, logs}
}

func retryArgs(batch []*outbox.Settlement) []any {
	delays, lost := make([]int64, len(batch)), make([]bool, len(batch))
	for i, x := range batch {
		delays[i], lost[i] = x.RetryIn.Milliseconds(), x.EngineLost
	}
	return []any{delays, lost}
}

func releaseArgs(owner int64, batch []*outbox.Settlement) []any {
	n := len(batch)
	ids, claims, delays, errs := make([][16]byte, n), make([]int32, n), make([]int64, n), make([]string, n)
	for i, x := range batch {
		ids[i], claims[i], delays[i], errs[i] = x.Entry.ID, int32(x.Entry.Claims), x.RetryIn.Milliseconds(), clean(x.Error)
	}
	return []any{owner, ids, claims, delays, errs}
}

// clean makes text that came from a script or its engine storable: Postgres text holds no NUL and no invalid UTF-8.
func clean(s string) string {
	if s == "" {
		return s
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "�"), "�")
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func backoffText(p *retry.Policy) (*string, error) {
	if p == nil {
		return nil, nil
	}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode backoff: %w", err)
	}
	s := string(b)
	return &s, nil
}

func optionalText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
