package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/retry"
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

// sqlOutboxInsert writes entries with all their fields. Rows that exist are touched, so that a repeat waits for
// replication as the first try did.
const sqlOutboxInsert = `
INSERT INTO outbox (id, event_id, app, lane, target, target_kind, trigger, root_id, replay_of, handler_for, principal,
    reply_to, owner, run_at, accepted_at, expires_at, timeout_ms, kind, state, priority, attempt, max_attempts, depth,
    backoff, gate, gate_limit, gate_seq, rate_key, debounce, debounced_at, keep_answer, envelope, payload)
SELECT id, event_id, app, lane, target, target_kind, nullif(trigger, '00000000-0000-0000-0000-000000000000'), root_id,
    nullif(replay_of, '00000000-0000-0000-0000-000000000000'),
    nullif(handler_for, '00000000-0000-0000-0000-000000000000'),
    nullif(principal, '00000000-0000-0000-0000-000000000000'),
    nullif(reply_to, '00000000-0000-0000-0000-000000000000'),
    CASE WHEN state = 2 THEN $1::bigint END, coalesce(run_at, now() + delay * interval '1 millisecond'), now(),
    now() + nullif(expires_in, 0) * interval '1 millisecond', timeout_ms, kind, state,
    priority, CASE WHEN state = 2 THEN 1 ELSE 0 END, max_attempts, depth, backoff::jsonb, gate, nullif(gate_limit, 0),
    gate_seq, rate_key, debounce, CASE WHEN debounce IS NOT NULL THEN coalesce(debounced_at, now()) END, keep_answer,
    envelope, payload
FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::uuid[], $9::uuid[],
    $10::uuid[], $11::uuid[], $12::uuid[], $13::timestamptz[], $14::bigint[], $15::bigint[],
    $16::int[], $17::smallint[], $18::smallint[], $19::smallint[], $20::smallint[], $21::smallint[], $22::smallint[],
    $23::smallint[], $24::bigint[], $25::text[], $26::text[], $27::text[], $28::text[], $29::timestamptz[],
    $30::boolean[], $31::bytea[], $32::bytea[])
    AS t (id, event_id, app, lane, target, trigger, root_id, replay_of, handler_for, principal, reply_to,
    run_at, delay, expires_in, timeout_ms, target_kind, kind, state, priority, max_attempts, depth,
    gate_limit, gate_seq, backoff, gate, rate_key, debounce, debounced_at, keep_answer, envelope, payload)
WHERE EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)
ON CONFLICT (id) DO UPDATE SET owner = outbox.owner`

// sqlOutboxUndo takes back what a repeated INSERT wrote of entries that have ended since the first try. It is a statement of
// its own: whoever ended one between the look of the first and its write is seen by the second.
const sqlOutboxUndo = `
DELETE FROM outbox WHERE id IN (
    SELECT e.id FROM executions e WHERE e.id = ANY ($1::uuid[]) AND e.outcome <> 2
        AND e.finished_at > clock_timestamp() - interval '1 hour')`

// Insert writes entries in one statement, or repeats that in one transaction.
func (s *OutboxStore) Insert(ctx context.Context, owner int64, entries []*outbox.Entry, again bool) ([]error, error) {
	if again {
		return nil, pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if err := insertFull(ctx, tx, owner, entries, nil); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, sqlOutboxUndo, entryIDs(entries))
			return err
		})
	}
	return nil, insert(ctx, s.pool, owner, entries)
}

// InsertIn writes entries in the caller's transaction, which commits them with what caused them. Not for keyed entries.
func (s *OutboxStore) InsertIn(ctx context.Context, tx pgx.Tx, owner int64, entries ...*outbox.Entry) error {
	return insert(ctx, tx, owner, entries)
}

func insert(ctx context.Context, db querier, owner int64, entries []*outbox.Entry) error {
	for _, e := range entries {
		if !isPlain(e) {
			return insertFull(ctx, db, owner, entries, nil)
		}
	}
	return insertPlain(ctx, db, owner, entries)
}

func entryIDs(entries []*outbox.Entry) [][16]byte {
	ids := make([][16]byte, len(entries))
	for i, e := range entries {
		ids[i] = e.ID
	}
	return ids
}

// written turns the rows of an INSERT into its error.
func written(tag pgconn.CommandTag, err error, want int) error {
	switch {
	case err != nil:
		return fmt.Errorf("insert entries: %w", rejected(err))
	case tag.RowsAffected() == 0 && want > 0:
		return outbox.ErrFenced
	case tag.RowsAffected() != int64(want):
		return fmt.Errorf("insert entries: the database took %d of %d", tag.RowsAffected(), want)
	}
	return nil
}

func isPlain(e *outbox.Entry) bool {
	return e.EventID == e.ID && e.RootID == e.ID && e.Lane == e.Target && e.TargetKind == outbox.TargetScript &&
		e.RunAt.IsZero() && e.Delay == 0 && e.ExpiresIn == 0 && e.Priority == 0 && e.Depth == 0 &&
		e.Backoff == nil && e.Gate == "" && e.RateKey == "" && !e.KeepAnswer &&
		e.ReplayOf == uuid.Nil && e.HandlerFor == uuid.Nil && e.Principal == uuid.Nil
}

func insertPlain(ctx context.Context, db querier, owner int64, entries []*outbox.Entry) error {
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
	tag, err := db.Exec(ctx, sqlOutboxInsertPlain, owner, ids, apps, targets, triggers, replies, timeouts, kinds, states,
		attempts, envelopes, payloads)
	return written(tag, err, n)
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
func insertFull(ctx context.Context, db querier, owner int64, entries []*outbox.Entry, seqs []*int64) error {
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
	runAt, delays, expiresIn := make([]*time.Time, n), make([]int64, n), make([]int64, n)
	timeouts, keep, debounced := make([]int32, n), make([]bool, n), make([]*time.Time, n)
	envelopes, payloads := make([][]byte, n), make([][]byte, n)
	for i, e := range entries {
		for j, id := range []uuid.UUID{
			e.ID, e.EventID, e.App, e.Lane, e.Target, e.Trigger, e.RootID, e.ReplayOf, e.HandlerFor, e.Principal, e.ReplyTo,
		} {
			u[j][i] = id
		}
		runAt[i], delays[i], expiresIn[i] = optionalTime(e.RunAt), e.Delay.Milliseconds(), e.ExpiresIn.Milliseconds()
		timeouts[i] = int32(e.Timeout.Milliseconds())
		for j, v := range []int16{
			e.TargetKind, int16(e.Kind), int16(e.State), e.Priority, int16(e.MaxAttempts), int16(e.Depth), int16(e.GateLimit),
		} {
			small[j][i] = v
		}
		var err error
		if text[0][i], err = backoffText(e.Backoff); err != nil {
			return &outbox.Rejected{Err: err}
		}
		text[1][i], text[2][i], text[3][i] = optionalText(e.Gate), optionalText(e.RateKey), optionalText(e.Debounce)
		keep[i], debounced[i], envelopes[i], payloads[i] = e.KeepAnswer, optionalTime(e.DebouncedAt), e.Envelope, stored(e)
	}
	tag, err := db.Exec(ctx, sqlOutboxInsert, owner, u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10],
		runAt, delays, expiresIn, timeouts, small[0], small[1], small[2], small[3], small[4], small[5], small[6],
		seqs, text[0], text[1], text[2], text[3], debounced, keep, envelopes, payloads)
	return written(tag, err, n)
}

// rejected marks errors of the data (SQLSTATE classes 22 and 23): repeating the same batch cannot help.
func rejected(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code[:2] == "22" || pg.Code[:2] == "23") {
		return &outbox.Rejected{Err: err}
	}
	return err
}

// sqlOutboxReady lists lanes that have ready entries, from behind one on. It is a loose index walk, so its cost grows with
// the lanes that have work and not with their backlog.
const sqlOutboxReady = `
WITH RECURSIVE ready (app, lane, retry) AS (
    (SELECT o.app, o.lane, o.retry FROM outbox o WHERE o.state = 1 AND (o.app, o.lane, o.retry) > ($1, $2, $3)
        ORDER BY o.app, o.lane, o.retry LIMIT 1)
    UNION ALL
    SELECT n.app, n.lane, n.retry FROM ready r CROSS JOIN LATERAL (
        SELECT o.app, o.lane, o.retry FROM outbox o WHERE o.state = 1 AND (o.app, o.lane, o.retry) > (r.app, r.lane, r.retry)
        ORDER BY o.app, o.lane, o.retry LIMIT 1) n
)
SELECT app, lane, retry FROM ready LIMIT $4`

// Ready lists up to limit lanes that have ready entries, in the order of their keys, from behind `after` on.
func (s *OutboxStore) Ready(ctx context.Context, after outbox.LaneKey, limit int) ([]outbox.LaneKey, error) {
	rows, _ := s.pool.Query(ctx, sqlOutboxReady, after.App, after.Lane, after.Retry, limit)
	lanes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[outbox.LaneKey])
	if err != nil {
		return nil, fmt.Errorf("list ready lanes: %w", err)
	}
	return lanes, nil
}

// sqlOutboxClaim takes the first ready entries of lanes for a node. It needs plan_cache_mode = force_custom_plan: a generic
// plan of LIMIT $n hashes the whole table.
const sqlOutboxClaim = `
WITH picked AS (
    SELECT p.id FROM unnest($2::uuid[], $3::uuid[], $4::boolean[], $5::int[]) AS w (app, lane, retry, quota) CROSS JOIN LATERAL (
        SELECT o.id FROM outbox o
        WHERE o.state = 1 AND o.app = w.app AND o.lane = w.lane AND o.retry = w.retry AND o.kind = ANY ($6::smallint[])
        ORDER BY o.priority, o.run_at, o.id
        LIMIT w.quota FOR UPDATE SKIP LOCKED) p
)
UPDATE outbox o SET state = 2, owner = $1, attempt = o.attempt + 1, claims = o.claims + 1
WHERE o.id = ANY (ARRAY (SELECT id FROM picked)) AND EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)
RETURNING ` + outboxColumns

const outboxColumns = `o.id, o.event_id, o.app, o.lane, o.target, o.target_kind, o.trigger, o.root_id, o.replay_of,
    o.handler_for, o.principal, o.reply_to, o.accepted_at, o.timeout_ms, o.kind, o.state, o.priority, o.retry, o.attempt,
    o.claims, o.max_attempts, o.depth, o.node_losses, o.engine_losses, o.backoff, coalesce(o.gate, ''), coalesce(o.gate_limit, 0),
    coalesce(o.rate_key, ''), o.keep_answer, coalesce(o.expires_at <= clock_timestamp(), false),
    o.cancelled_at IS NOT NULL, o.envelope, o.payload`

// Claim takes ready entries for the epoch, at most the quota of each lane. Their attempt is counted before they are
// returned, in no order.
func (s *OutboxStore) Claim(ctx context.Context, owner int64, quotas []outbox.Quota) ([]*outbox.Entry, error) {
	n := len(quotas)
	apps, lanes, retries, counts := make([][16]byte, n), make([][16]byte, n), make([]bool, n), make([]int32, n)
	for i, q := range quotas {
		apps[i], lanes[i], retries[i], counts[i] = q.App, q.Lane, q.Retry, int32(q.Count)
	}
	rows, err := s.pool.Query(ctx, sqlOutboxClaim, owner, apps, lanes, retries, counts, outbox.Kinds)
	if err != nil {
		return nil, fmt.Errorf("claim entries: %w", err)
	}
	entries, err := pgx.CollectRows(rows, scanEntry)
	if err != nil {
		return nil, fmt.Errorf("claim entries: %w", err)
	}
	for _, e := range entries {
		e.Owner = owner
	}
	return entries, nil
}

// id and idOrNil are what ids are scanned into: uuid.UUID by itself is scanned as a sql.Scanner, by way of a string, which
// was a seventh of what a claim cost the host.
func id(u *uuid.UUID) *[16]byte { return (*[16]byte)(u) }

func idOrNil(u *uuid.UUID) *zeronull.UUID { return (*zeronull.UUID)(u) }

func scanEntry(row pgx.CollectableRow) (*outbox.Entry, error) {
	var e outbox.Entry
	var timeout int32
	var backoff []byte
	err := row.Scan(id(&e.ID), id(&e.EventID), id(&e.App), id(&e.Lane), id(&e.Target), &e.TargetKind, idOrNil(&e.Trigger),
		id(&e.RootID), idOrNil(&e.ReplayOf), idOrNil(&e.HandlerFor), idOrNil(&e.Principal), idOrNil(&e.ReplyTo), &e.AcceptedAt,
		&timeout, (*int16)(&e.Kind), (*int16)(&e.State), &e.Priority, &e.Retry, &e.Attempt, &e.Claims, &e.MaxAttempts, &e.Depth, &e.NodeLosses,
		&e.EngineLosses, &backoff, &e.Gate, &e.GateLimit, &e.RateKey, &e.KeepAnswer, &e.Expired, &e.Cancelled, &e.Envelope, &e.Payload)
	if err != nil {
		return nil, err
	}
	e.Backoff = readBackoff(backoff)
	e.Timeout = time.Duration(timeout) * time.Millisecond
	return &e, nil
}

// readBackoff reads a stored policy. One that cannot be read, which this version did not write, must not keep the rest of a
// claim from running: then the default applies.
func readBackoff(stored []byte) *retry.Policy {
	var p retry.Policy
	if stored == nil || json.Unmarshal(stored, &p) != nil || p.Validate() != nil {
		return nil
	}
	return &p
}

// Entries that are due become ready, but those that have yet to pass their gate go before it.
const (
	sqlOutboxPromote = `
UPDATE outbox SET state = 1 WHERE id = ANY (ARRAY (
    SELECT id FROM outbox WHERE state = 0 AND run_at <= clock_timestamp() AND (gate IS NULL OR gate_held)
    ORDER BY run_at LIMIT 500 FOR UPDATE SKIP LOCKED))`

	sqlOutboxDueAtGates = `
SELECT id, app, gate FROM outbox WHERE state = 0 AND run_at <= clock_timestamp() AND gate IS NOT NULL AND NOT gate_held
ORDER BY run_at LIMIT 500`

	sqlOutboxBlock = `
UPDATE outbox o SET state = 3, gate_seq = x.seq FROM unnest($1::uuid[], $2::bigint[]) AS x (id, seq)
WHERE o.id = ANY (ARRAY[x.id]) AND o.state = 0 AND NOT o.gate_held`

	sqlOutboxNextDue = `SELECT ceil(extract(epoch FROM min(run_at) - clock_timestamp()) * 1000)::bigint FROM outbox WHERE state = 0`
)

// Promote makes up to 1,000 due entries ready, or has them wait at their gates, and returns how many. Where there was none,
// next is how long until the next is due; nil: none is.
func (s *OutboxStore) Promote(ctx context.Context) (n int, next *time.Duration, err error) {
	tag, err := s.pool.Exec(ctx, sqlOutboxPromote)
	if err != nil {
		return 0, nil, fmt.Errorf("promote entries: %w", err)
	}
	gated, err := s.promoteGated(ctx)
	if n = int(tag.RowsAffected()) + gated; err != nil || n > 0 {
		return n, nil, err
	}
	var due *int64
	if err := s.pool.QueryRow(ctx, sqlOutboxNextDue).Scan(&due); err != nil {
		return 0, nil, fmt.Errorf("look for the next due entry: %w", err)
	}
	if due != nil {
		in := time.Duration(*due) * time.Millisecond
		next = &in
	}
	return 0, next, nil
}

func (s *OutboxStore) promoteGated(ctx context.Context) (n int, err error) {
	type due struct {
		ID, App uuid.UUID
		Gate    string
	}
	rows, _ := s.pool.Query(ctx, sqlOutboxDueAtGates)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[due])
	if err != nil {
		return 0, fmt.Errorf("promote entries: %w", err)
	}
	if len(list) == 0 {
		return 0, nil
	}
	places := map[gateKey]int32{}
	var keys []gateKey
	for _, d := range list {
		k := gateKey{d.App, d.Gate}
		places[k]++
		keys = append(keys, k)
	}
	keys = gateKeys(keys)
	counts := make([]int32, len(keys))
	for i, k := range keys {
		counts[i] = places[k]
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		first, err := reserveGates(ctx, tx, keys, counts)
		if err != nil {
			return err
		}
		next := map[gateKey]int64{}
		for i, k := range keys {
			next[k] = first[i]
		}
		ids, seqs := make([][16]byte, len(list)), make([]int64, len(list))
		for i, d := range list {
			k := gateKey{d.App, d.Gate}
			ids[i], seqs[i] = d.ID, next[k]
			next[k]++
		}
		tag, err := tx.Exec(ctx, sqlOutboxBlock, ids, seqs)
		if err != nil {
			return fmt.Errorf("promote entries: %w", err)
		}
		n = int(tag.RowsAffected())
		_, err = fillGates(ctx, tx, keys)
		return err
	})
	return n, err
}

// sqlOutboxStranded lists gates of entries whose owner is no live epoch.
const sqlOutboxStranded = `
SELECT DISTINCT app, gate FROM (
    SELECT o.app, o.gate FROM outbox o
    WHERE o.state = 2 AND o.gate IS NOT NULL AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.epoch = o.owner) LIMIT 500) x`

// outboxDead are the owners that are no live epoch, as an array. The sweep compares with it, and does not look for each
// row's owner among the live ones: when a row has changed by the time that it is locked, the database asks its conditions
// again of the new row, but takes what was joined as it was. So a row that another sweep freed and a live node claimed
// would pass.
const outboxDead = `ARRAY (
    WITH RECURSIVE owners (owner) AS (
        (SELECT o.owner FROM outbox o WHERE o.state = 2 ORDER BY o.owner LIMIT 1)
        UNION ALL
        SELECT (SELECT o.owner FROM outbox o WHERE o.state = 2 AND o.owner > p.owner ORDER BY o.owner LIMIT 1)
        FROM owners p WHERE p.owner IS NOT NULL)
    SELECT owner FROM owners WHERE owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.epoch = owners.owner))`

// outboxLost says why the sweep has an entry: its node died, or could store nothing of how a run ended (sqlSettleLost).
const outboxLost = `CASE WHEN owner = 0 THEN 'how the run ended could not be stored' ELSE 'the node died during the run' END`

// sqlOutboxSweep frees entries whose owner is no live epoch. A sync call is never run again: it ends as abandoned. Nor is
// the handler of a dead letter. Another that is out of attempts, or lost its node too often, becomes a dead letter; the rest
// are ready again, still through their gates. A letter that is there already, for which a settlement may have been refused,
// must not keep the sweep from the others. Rows are locked one sweep at a time, in batches, so that a sweep never waits
// for another.
const sqlOutboxSweep = `
WITH lost AS MATERIALIZED (
    SELECT o.id, o.reply_to IS NULL AND o.attempt < o.max_attempts AND o.node_losses < 10 AND o.cancelled_at IS NULL AS again
    FROM outbox o
    WHERE o.state = 2 AND o.owner = ANY (` + outboxDead + `)
        AND (o.gate IS NULL OR EXISTS (
            SELECT 1 FROM unnest($1::uuid[], $2::text[]) AS x (app, key) WHERE x.app = o.app AND x.key = o.gate))
    LIMIT 500 FOR UPDATE OF o SKIP LOCKED
), freed AS (
    UPDATE outbox o SET state = 1, owner = NULL, node_losses = o.node_losses + 1, last_error = ` + outboxLost + `
    FROM lost WHERE o.id = lost.id AND lost.again
    RETURNING 1
), gone AS (
    DELETE FROM outbox o USING lost WHERE o.id = lost.id AND NOT lost.again
    RETURNING o.*, CASE WHEN o.reply_to IS NOT NULL THEN 8 WHEN o.cancelled_at IS NOT NULL THEN 4
        WHEN o.handler_for IS NOT NULL THEN 7 ELSE 3 END AS outcome
), letters AS (
    INSERT INTO dead_letters (id, event_id, app, lane, target, target_kind, trigger, root_id, replay_of, principal, kind,
        priority, attempts, max_attempts, depth, timeout_ms, backoff, gate, gate_limit, rate_key, reason, error, fault, cause,
        envelope, payload, accepted_at)
    SELECT id, event_id, app, lane, target, target_kind, trigger, root_id, replay_of, principal, kind,
        priority, attempt, max_attempts, depth, timeout_ms, backoff, gate, gate_limit, rate_key,
        CASE WHEN attempt >= max_attempts THEN 'exhausted' ELSE 'node_lost' END, ` + outboxLost + `,
        'platform', CASE WHEN owner = 0 THEN 'not_stored' ELSE 'node_lost' END, envelope, payload, accepted_at
    FROM gone WHERE outcome = 3
    ON CONFLICT (id) DO NOTHING
), handled AS (
    UPDATE dead_letters d SET resolution = 'handler_failed' FROM gone
    WHERE gone.outcome = 7 AND d.id = gone.handler_for AND d.resolved_at IS NULL
), records AS (
    INSERT INTO executions (id, attempt, finished_at, app, script, trigger, kind, outcome, reason, depth, event_id, root_id,
        accepted_at, started_at, duration_us, node, error, fault)
    SELECT id, attempt, clock_timestamp(), app, target, trigger, kind, outcome,
        CASE WHEN cancelled_at IS NULL THEN 'node_lost' ELSE 'user' END, depth, event_id, root_id, accepted_at,
        accepted_at, 0, coalesce(owner, 0), ` + outboxLost + `, 'platform'
    FROM gone
)
SELECT (SELECT count(*) FROM freed), (SELECT count(*) FROM gone), (SELECT count(*) FROM gone WHERE outcome = 3)`

// Sweep frees up to 500 entries of dead owners. It returns how many are ready again, how many have ended, and how many of
// those as dead letters.
func (s *OutboxStore) Sweep(ctx context.Context) (freed, ended, dead int, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sqlOutboxStranded)
		keys, err := pgx.CollectRows(rows, scanGateKey)
		if err != nil {
			return fmt.Errorf("sweep entries: %w", err)
		}
		keys = gateKeys(keys)
		if err := lockGates(ctx, tx, keys); err != nil {
			return err
		}
		apps, names := gateArrays(keys)
		if err := tx.QueryRow(ctx, sqlOutboxSweep, apps, names).Scan(&freed, &ended, &dead); err != nil {
			return fmt.Errorf("sweep entries: %w", err)
		}
		_, err = fillGates(ctx, tx, keys)
		return err
	})
	return freed, ended, dead, err
}

const sqlOutboxDetach = `
UPDATE outbox o SET reply_to = NULL, keep_answer = true, payload = $4
WHERE o.id = $2 AND o.claims = $3 AND o.owner + 0 = $1 AND o.state + 0 = 2 AND EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)`

// Detach makes a running sync entry one that nobody waits for, whose answer is kept. It reports whether the entry was
// still running.
func (s *OutboxStore) Detach(ctx context.Context, owner int64, e *outbox.Entry) (bool, error) {
	tag, err := s.pool.Exec(ctx, sqlOutboxDetach, owner, e.ID, e.Claims, e.Payload)
	if err != nil {
		return false, fmt.Errorf("detach entry: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

const sqlOutboxCancelled = `SELECT id FROM outbox WHERE owner = $1 AND cancelled_at IS NOT NULL`

// Cancelled lists the entries of an epoch that are to be stopped.
func (s *OutboxStore) Cancelled(ctx context.Context, owner int64) ([]uuid.UUID, error) {
	rows, _ := s.pool.Query(ctx, sqlOutboxCancelled, owner)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("list cancelled entries: %w", err)
	}
	return ids, nil
}

const sqlOutboxOwned = `SELECT id, attempt, claims, reply_to FROM outbox WHERE state = 2 AND owner = $1`

// Owned lists the running entries of an epoch: ID, Attempt, Claims and ReplyTo only.
func (s *OutboxStore) Owned(ctx context.Context, owner int64) ([]*outbox.Entry, error) {
	rows, err := s.pool.Query(ctx, sqlOutboxOwned, owner)
	if err != nil {
		return nil, fmt.Errorf("list own entries: %w", err)
	}
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*outbox.Entry, error) {
		var e outbox.Entry
		var replyTo *uuid.UUID
		if err := row.Scan(&e.ID, &e.Attempt, &e.Claims, &replyTo); err != nil {
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
