package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/outbox"
)

// OutboxStore writes, claims and ends entries. Pools differ in synchronous_commit, so a store serves one durability.
type OutboxStore struct{ pool *pgxpool.Pool }

// NewOutboxStore makes a store over pool.
func NewOutboxStore(pool *pgxpool.Pool) *OutboxStore { return &OutboxStore{pool} }

// sqlOutboxInsertPlain writes entries that are their own event and root, due now, with no policy of their own: all of
// the sync path. Sending the constants once instead of as arrays saves a third of the statement's CPU. The time is the
// database's, so that no node's clock orders the queue.
const sqlOutboxInsertPlain = `
INSERT INTO outbox (id, event_id, app, lane, target, trigger, root_id, reply_to, owner, run_at, accepted_at,
    timeout_ms, kind, state, attempt, max_attempts, envelope, payload)
SELECT id, id, app, target, target, nullif(trigger, '00000000-0000-0000-0000-000000000000'), id,
    nullif(reply_to, '00000000-0000-0000-0000-000000000000'),
    CASE WHEN state = 2 THEN $1::bigint END, now(), now(), timeout_ms, kind, state,
    CASE WHEN state = 2 THEN 1 ELSE 0 END, max_attempts, envelope, payload
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::int[], $8::smallint[], $9::smallint[],
    $10::smallint[], $11::bytea[], $12::bytea[])
    AS t (id, app, target, trigger, reply_to, timeout_ms, kind, state, max_attempts, envelope, payload)
WHERE EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)`

// sqlOutboxInsert writes entries with all their fields, and is safe to repeat: rows that exist are touched, so that the
// repeat waits for replication as the first try did; entries that have finished meanwhile count as written.
const sqlOutboxInsert = `
WITH t AS (
    SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::uuid[], $9::uuid[],
        $10::uuid[], $11::uuid[], $12::uuid[], $13::timestamptz[], $14::bigint[], $15::timestamptz[], $16::bigint[],
        $17::int[], $18::smallint[], $19::smallint[], $20::smallint[], $21::smallint[], $22::smallint[], $23::smallint[],
        $24::smallint[], $25::bigint[], $26::text[], $27::text[], $28::text[], $29::text[], $30::boolean[],
        $31::bytea[], $32::bytea[])
        AS t (id, event_id, app, lane, target, trigger, root_id, replay_of, handler_for, principal, reply_to,
        run_at, delay, expires_at, expires_in, timeout_ms, target_kind, kind, state, priority, max_attempts, depth,
        gate_limit, gate_seq, backoff, gate, rate_key, debounce, keep_answer, envelope, payload)
), finished AS (
    SELECT DISTINCT t.id FROM t JOIN executions e ON e.id = t.id WHERE e.outcome <> 2
), written AS (
    INSERT INTO outbox (id, event_id, app, lane, target, target_kind, trigger, root_id, replay_of, handler_for, principal,
        reply_to, owner, run_at, accepted_at, expires_at, timeout_ms, kind, state, priority, attempt, max_attempts, depth,
        backoff, gate, gate_limit, gate_seq, rate_key, debounce, keep_answer, envelope, payload)
    SELECT id, event_id, app, lane, target, target_kind, nullif(trigger, '00000000-0000-0000-0000-000000000000'), root_id,
        nullif(replay_of, '00000000-0000-0000-0000-000000000000'),
        nullif(handler_for, '00000000-0000-0000-0000-000000000000'),
        nullif(principal, '00000000-0000-0000-0000-000000000000'),
        nullif(reply_to, '00000000-0000-0000-0000-000000000000'),
        CASE WHEN state = 2 THEN $1::bigint END, coalesce(run_at, now() + delay * interval '1 millisecond'), now(),
        coalesce(expires_at, now() + nullif(expires_in, 0) * interval '1 millisecond'), timeout_ms, kind, state,
        priority, CASE WHEN state = 2 THEN 1 ELSE 0 END, max_attempts, depth, backoff::jsonb, gate, nullif(gate_limit, 0),
        gate_seq, rate_key, debounce, keep_answer, envelope, payload
    FROM t
    WHERE EXISTS (SELECT 1 FROM nodes WHERE epoch = $1) AND id NOT IN (SELECT id FROM finished)
    ON CONFLICT (id) DO UPDATE SET owner = outbox.owner
    RETURNING 1
)
SELECT (SELECT count(*) FROM written) + (SELECT count(*) FROM finished)`

// Insert writes entries in one statement and returns how many were written: none when the epoch is not live.
func (s *OutboxStore) Insert(ctx context.Context, owner int64, entries []*outbox.Entry, again bool) (int64, error) {
	plain := !again
	for _, e := range entries {
		plain = plain && isPlain(e)
	}
	if plain {
		return s.insertPlain(ctx, owner, entries)
	}
	return insertFull(ctx, s.pool, owner, entries, nil)
}

func isPlain(e *outbox.Entry) bool {
	return e.EventID == e.ID && e.RootID == e.ID && e.Lane == e.Target && e.TargetKind == outbox.TargetScript &&
		e.RunAt.IsZero() && e.Delay == 0 && e.ExpiresAt.IsZero() && e.ExpiresIn == 0 && e.Priority == 0 && e.Depth == 0 &&
		e.Backoff == nil && e.Gate == "" && e.RateKey == "" && !e.KeepAnswer &&
		e.ReplayOf == uuid.Nil && e.HandlerFor == uuid.Nil && e.Principal == uuid.Nil
}

func (s *OutboxStore) insertPlain(ctx context.Context, owner int64, entries []*outbox.Entry) (int64, error) {
	n := len(entries)
	ids, apps, targets := make([][16]byte, n), make([][16]byte, n), make([][16]byte, n)
	triggers, replies := make([][16]byte, n), make([][16]byte, n)
	timeouts := make([]int32, n)
	small := make([]int16, 3*n)
	kinds, states, attempts := small[:n:n], small[n:2*n:2*n], small[2*n:]
	envelopes, payloads := make([][]byte, n), make([][]byte, n)
	for i, e := range entries {
		ids[i], apps[i], targets[i], triggers[i], replies[i] = e.ID, e.App, e.Target, e.Trigger, e.ReplyTo
		timeouts[i] = int32(e.Timeout.Milliseconds())
		kinds[i], states[i], attempts[i] = int16(e.Kind), int16(e.State), int16(e.MaxAttempts)
		envelopes[i], payloads[i] = e.Envelope, stored(e)
	}
	tag, err := s.pool.Exec(ctx, sqlOutboxInsertPlain, owner, ids, apps, targets, triggers, replies, timeouts, kinds, states,
		attempts, envelopes, payloads)
	if err != nil {
		return 0, fmt.Errorf("insert entries: %w", rejected(err))
	}
	return tag.RowsAffected(), nil
}

// stored is the payload that a row keeps: none for a sync call, which is never run again.
func stored(e *outbox.Entry) []byte {
	if e.Sync() {
		return nil
	}
	return e.Payload
}

// querier is a pool or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// insertFull writes entries of every kind. seqs are their places before their gates, nil where none has one.
func insertFull(ctx context.Context, db querier, owner int64, entries []*outbox.Entry, seqs []*int64) (int64, error) {
	n := len(entries)
	var u [11][][16]byte
	for i := range u {
		u[i] = make([][16]byte, n)
	}
	var small [7][]int16
	for i := range small {
		small[i] = make([]int16, n)
	}
	var text [4][]*string
	for i := range text {
		text[i] = make([]*string, n)
	}
	if seqs == nil {
		seqs = make([]*int64, n)
	}
	runAt, expiresAt := make([]*time.Time, n), make([]*time.Time, n)
	delays, expiresIn := make([]int64, n), make([]int64, n)
	timeouts, keep := make([]int32, n), make([]bool, n)
	envelopes, payloads := make([][]byte, n), make([][]byte, n)
	for i, e := range entries {
		for j, id := range []uuid.UUID{
			e.ID, e.EventID, e.App, e.Lane, e.Target, e.Trigger, e.RootID, e.ReplayOf, e.HandlerFor, e.Principal, e.ReplyTo,
		} {
			u[j][i] = id
		}
		runAt[i], expiresAt[i] = optionalTime(e.RunAt), optionalTime(e.ExpiresAt)
		delays[i], expiresIn[i] = e.Delay.Milliseconds(), e.ExpiresIn.Milliseconds()
		timeouts[i] = int32(e.Timeout.Milliseconds())
		for j, v := range []int16{
			e.TargetKind, int16(e.Kind), int16(e.State), e.Priority, int16(e.MaxAttempts), int16(e.Depth), int16(e.GateLimit),
		} {
			small[j][i] = v
		}
		var err error
		if text[0][i], err = backoffText(e.Backoff); err != nil {
			return 0, &outbox.Rejected{Err: err}
		}
		text[1][i], text[2][i], text[3][i] = optionalText(e.Gate), optionalText(e.RateKey), optionalText(e.Debounce)
		keep[i], envelopes[i], payloads[i] = e.KeepAnswer, e.Envelope, stored(e)
	}
	var written int64
	err := db.QueryRow(ctx, sqlOutboxInsert, owner, u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10],
		runAt, delays, expiresAt, expiresIn, timeouts, small[0], small[1], small[2], small[3], small[4], small[5], small[6],
		seqs, text[0], text[1], text[2], text[3], keep, envelopes, payloads).Scan(&written)
	if err != nil {
		return 0, fmt.Errorf("insert entries: %w", rejected(err))
	}
	return written, nil
}

// rejected marks errors of the data (SQLSTATE classes 22 and 23): repeating the same batch cannot help.
func rejected(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code[:2] == "22" || pg.Code[:2] == "23") {
		return &outbox.Rejected{Err: err}
	}
	return err
}

// sqlOutboxClaim takes ready entries for a node, at most $2 a ready app and $5 in all. The app list is a loose index
// walk, so its cost grows with the apps that have work and not with their backlog; it begins behind the app that was
// served last. It needs plan_cache_mode = force_custom_plan: a generic plan of LIMIT $n hashes the whole table.
const sqlOutboxClaim = `
WITH RECURSIVE ready (app) AS (
    (SELECT o.app FROM outbox o WHERE o.state = 1 AND o.app > $3 ORDER BY o.app LIMIT 1)
    UNION ALL
    SELECT (SELECT o.app FROM outbox o WHERE o.state = 1 AND o.app > r.app ORDER BY o.app LIMIT 1)
    FROM ready r WHERE r.app IS NOT NULL
), picked AS (
    SELECT p.id FROM (SELECT app FROM ready WHERE app IS NOT NULL LIMIT 64) r CROSS JOIN LATERAL (
        SELECT o.id FROM outbox o
        WHERE o.state = 1 AND o.app = r.app AND o.kind = ANY ($4::smallint[])
        ORDER BY o.lane, o.priority, o.run_at, o.id
        LIMIT $2 FOR UPDATE SKIP LOCKED) p
    LIMIT $5
)
UPDATE outbox o SET state = 2, owner = $1, attempt = o.attempt + 1
WHERE o.id = ANY (ARRAY (SELECT id FROM picked)) AND EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)
RETURNING ` + outboxColumns

const outboxColumns = `o.id, o.event_id, o.app, o.lane, o.target, o.target_kind, o.trigger, o.root_id, o.replay_of,
    o.handler_for, o.principal, o.reply_to, o.accepted_at, o.expires_at, o.timeout_ms, o.kind, o.state, o.priority, o.attempt,
    o.max_attempts, o.depth, o.node_losses, o.engine_losses, o.backoff, coalesce(o.gate, ''), coalesce(o.gate_limit, 0),
    o.gate_held, coalesce(o.rate_key, ''), o.keep_answer, o.envelope, o.payload`

// Claim takes up to limit ready entries for the epoch, at most perApp of each app, beginning behind the app `after`.
// Their attempt is counted before they are returned.
func (s *OutboxStore) Claim(
	ctx context.Context, owner int64, limit, perApp int, after uuid.UUID,
) ([]*outbox.Entry, error) {
	rows, err := s.pool.Query(ctx, sqlOutboxClaim, owner, perApp, after, outbox.Kinds, limit)
	if err != nil {
		return nil, fmt.Errorf("claim entries: %w", err)
	}
	entries, err := pgx.CollectRows(rows, scanEntry)
	if err != nil {
		return nil, fmt.Errorf("claim entries: %w", err)
	}
	return entries, nil
}

func scanEntry(row pgx.CollectableRow) (*outbox.Entry, error) {
	var e outbox.Entry
	var trigger, replayOf, handlerFor, principal, replyTo *uuid.UUID
	var expires *time.Time
	var timeout int32
	err := row.Scan(&e.ID, &e.EventID, &e.App, &e.Lane, &e.Target, &e.TargetKind, &trigger, &e.RootID, &replayOf, &handlerFor,
		&principal, &replyTo, &e.AcceptedAt, &expires, &timeout, &e.Kind, &e.State, &e.Priority, &e.Attempt, &e.MaxAttempts,
		&e.Depth, &e.NodeLosses, &e.EngineLosses, &e.Backoff, &e.Gate, &e.GateLimit, &e.GateHeld, &e.RateKey, &e.KeepAnswer,
		&e.Envelope, &e.Payload)
	if err != nil {
		return nil, err
	}
	for to, from := range map[*uuid.UUID]*uuid.UUID{
		&e.Trigger: trigger, &e.ReplayOf: replayOf, &e.HandlerFor: handlerFor, &e.Principal: principal, &e.ReplyTo: replyTo,
	} {
		if from != nil {
			*to = *from
		}
	}
	if expires != nil {
		e.ExpiresAt = *expires
	}
	e.Timeout = time.Duration(timeout) * time.Millisecond
	return &e, nil
}

// sqlOutboxPromote makes due entries ready.
const sqlOutboxPromote = `
WITH due AS (
    UPDATE outbox SET state = 1 WHERE id = ANY (ARRAY (
        SELECT id FROM outbox WHERE state = 0 AND run_at <= clock_timestamp() ORDER BY run_at LIMIT 500
        FOR UPDATE SKIP LOCKED))
    RETURNING 1
)
SELECT count(*) FROM due`

// Promote makes up to 500 due entries ready and returns how many.
func (s *OutboxStore) Promote(ctx context.Context) (int, error) {
	var n int
	if err := s.pool.QueryRow(ctx, sqlOutboxPromote).Scan(&n); err != nil {
		return 0, fmt.Errorf("promote entries: %w", err)
	}
	return n, nil
}

// sqlOutboxSweep frees entries whose owner is no live epoch. A sync call is never run again: it ends as abandoned. An
// entry that is out of attempts, or lost its node too often, becomes a dead letter; the others are ready again. Rows are
// locked one sweep at a time, in batches, so that a sweep never waits for another.
const sqlOutboxSweep = `
WITH lost AS MATERIALIZED (
    SELECT o.id FROM outbox o
    WHERE o.state = 2 AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.epoch = o.owner)
    LIMIT 500 FOR UPDATE SKIP LOCKED
), freed AS (
    UPDATE outbox o SET state = 1, owner = NULL, node_losses = o.node_losses + 1, last_error = 'the node died during the run'
    FROM lost WHERE o.id = lost.id AND o.reply_to IS NULL AND o.attempt < o.max_attempts AND o.node_losses < 10
    RETURNING 1
), gone AS (
    DELETE FROM outbox o USING lost
    WHERE o.id = lost.id AND NOT (o.reply_to IS NULL AND o.attempt < o.max_attempts AND o.node_losses < 10)
    RETURNING o.*
), letters AS (
    INSERT INTO dead_letters (id, event_id, app, lane, target, target_kind, trigger, root_id, replay_of, principal, kind,
        priority, attempts, max_attempts, depth, timeout_ms, backoff, gate, gate_limit, rate_key, reason, error, fault, envelope, payload,
        accepted_at)
    SELECT id, event_id, app, lane, target, target_kind, trigger, root_id, replay_of, principal, kind,
        priority, attempt, max_attempts, depth, timeout_ms, backoff, gate, gate_limit, rate_key,
        CASE WHEN attempt >= max_attempts THEN 'exhausted' ELSE 'node_lost' END, 'the node died during the run',
        'platform', envelope, payload, accepted_at
    FROM gone WHERE reply_to IS NULL
), records AS (
    INSERT INTO executions (id, attempt, finished_at, app, script, trigger, kind, outcome, reason, depth, event_id, root_id,
        accepted_at, started_at, duration_us, node, error, fault)
    SELECT id, attempt, clock_timestamp(), app, target, trigger, kind, CASE WHEN reply_to IS NULL THEN 3 ELSE 8 END,
        'node_lost', depth, event_id, root_id, accepted_at, accepted_at, 0, coalesce(owner, 0),
        'the node died during the run', 'platform'
    FROM gone
)
SELECT (SELECT count(*) FROM freed), (SELECT count(*) FROM gone)`

// Sweep frees up to 500 entries of dead owners. It returns how many are ready again and how many have ended.
func (s *OutboxStore) Sweep(ctx context.Context) (freed, ended int, err error) {
	if err := s.pool.QueryRow(ctx, sqlOutboxSweep).Scan(&freed, &ended); err != nil {
		return 0, 0, fmt.Errorf("sweep entries: %w", err)
	}
	return freed, ended, nil
}

const sqlOutboxOwned = `SELECT id, attempt, reply_to FROM outbox WHERE state = 2 AND owner = $1`

// Owned lists the running entries of an epoch: ID, Attempt and ReplyTo only.
func (s *OutboxStore) Owned(ctx context.Context, owner int64) ([]*outbox.Entry, error) {
	rows, err := s.pool.Query(ctx, sqlOutboxOwned, owner)
	if err != nil {
		return nil, fmt.Errorf("list own entries: %w", err)
	}
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*outbox.Entry, error) {
		var e outbox.Entry
		var replyTo *uuid.UUID
		if err := row.Scan(&e.ID, &e.Attempt, &replyTo); err != nil {
			return nil, err
		}
		if replyTo != nil {
			e.ReplyTo = *replyTo
		}
		return &e, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list own entries: %w", err)
	}
	return entries, nil
}
