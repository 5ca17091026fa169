package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/record"
	"github.com/picloud/picloud/core/tenant"
)

const (
	sqlReplayGates = `
SELECT d.id, coalesce(d.gate, '') FROM unnest($2::uuid[]) WITH ORDINALITY AS x (id, n)
JOIN dead_letters d ON d.id = x.id WHERE d.app = $1 ORDER BY x.n`

	sqlReplayLock = `
SELECT id FROM dead_letters WHERE app = $1 AND id = ANY ($2::uuid[]) AND resolved_at IS NULL ORDER BY id FOR UPDATE`

	// sqlReplayInsert puts dead letters back as new entries. Attempts begin anew; depth, root and principal stay, so a replay
	// neither escapes a loop's bound nor gains rights. One with a gate waits its turn there.
	sqlReplayInsert = `
INSERT INTO outbox (id, event_id, app, lane, target, target_kind, trigger, root_id, replay_of, principal, run_at, accepted_at,
    timeout_ms, kind, state, priority, max_attempts, depth, backoff, gate, gate_limit, gate_seq, rate_key, retry, envelope,
    payload)
SELECT x.entry, d.event_id, d.app, d.lane, d.target, d.target_kind, d.trigger, d.root_id, d.id, d.principal, now(), now(),
    d.timeout_ms, 3, CASE WHEN d.gate IS NULL THEN 1 ELSE 3 END, d.priority, d.max_attempts, d.depth, d.backoff, d.gate,
    d.gate_limit, x.seq, d.rate_key, true, d.envelope, coalesce($5, d.payload)
FROM unnest($2::uuid[], $3::uuid[], $4::bigint[]) AS x (id, entry, seq) JOIN dead_letters d ON d.id = x.id
WHERE d.app = $1`

	sqlReplayMark = `
UPDATE dead_letters d SET resolved_at = clock_timestamp(), resolution = 'replayed', replayed_as = x.entry, replay = $4
FROM unnest($2::uuid[], $3::uuid[]) AS x (id, entry) WHERE d.app = $1 AND d.id = x.id`
)

// replayLetters puts those of the dead letters back that are open, in their order, and returns the entries that they became.
// payload, where not nil, takes the place of theirs; job, where not nil, is noted in them. Gates are locked before
// letters, as everywhere.
func replayLetters(
	ctx context.Context, tx pgx.Tx, app uuid.UUID, ids []uuid.UUID, job *uuid.UUID, payload []byte,
) ([]uuid.UUID, error) {
	type letter struct {
		ID   uuid.UUID
		Gate string
	}
	rows, _ := tx.Query(ctx, sqlReplayGates, app, ids)
	letters, err := pgx.CollectRows(rows, pgx.RowToStructByPos[letter])
	if err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	places := map[gateKey]int32{}
	var keys []gateKey
	for _, l := range letters {
		if l.Gate != "" {
			k := gateKey{app, l.Gate}
			places[k]++
			keys = append(keys, k)
		}
	}
	keys = gateKeys(keys)
	counts := make([]int32, len(keys))
	for i, k := range keys {
		counts[i] = places[k]
	}
	next := map[gateKey]int64{}
	if len(keys) > 0 {
		first, err := reserveGates(ctx, tx, keys, counts)
		if err != nil {
			return nil, err
		}
		for i, k := range keys {
			next[k] = first[i]
		}
	}
	rows, _ = tx.Query(ctx, sqlReplayLock, app, ids)
	open := map[uuid.UUID]bool{}
	var id uuid.UUID
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { open[id] = true; return nil }); err != nil {
		return nil, fmt.Errorf("lock dead letters: %w", err)
	}
	var from, entries []uuid.UUID
	var seqs []*int64
	for _, l := range letters {
		if !open[l.ID] {
			continue
		}
		entry, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("make entry id: %w", err)
		}
		var seq *int64
		if l.Gate != "" {
			k := gateKey{app, l.Gate}
			seq = new(next[k])
			next[k]++
		}
		from, entries, seqs = append(from, l.ID), append(entries, entry), append(seqs, seq)
	}
	if len(entries) == 0 {
		return nil, nil
	}
	if _, err := tx.Exec(ctx, sqlReplayInsert, app, from, entries, seqs, payload); err != nil {
		return nil, fmt.Errorf("put dead letters back: %w", err)
	}
	if _, err := tx.Exec(ctx, sqlReplayMark, app, from, entries, job); err != nil {
		return nil, fmt.Errorf("mark dead letters: %w", err)
	}
	_, err = fillGates(ctx, tx, keys)
	return entries, err
}

const sqlReplayExists = `SELECT 1 FROM dead_letters WHERE app = $1 AND id = $2`

// Replay puts an open dead letter back into the outbox and returns the id of the new entry. payload, where not nil, takes
// the place of the letter's. One that is resolved is a *tenant.Conflict.
func (s *DeadLetterStore) Replay(ctx context.Context, by, app, id uuid.UUID, payload []byte) (entry uuid.UUID, err error) {
	c := &change{
		by: by, app: app, action: "dead_letter.replay", object: id.String(), detail: map[string]bool{"edited": payload != nil},
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := lockApp(ctx, tx, app); err != nil {
			return err
		}
		entries, err := replayLetters(ctx, tx, app, []uuid.UUID{id}, nil, payload)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			var one int
			if err := tx.QueryRow(ctx, sqlReplayExists, app, id).Scan(&one); err != nil {
				return missing("read dead letter", err)
			}
			return &tenant.Conflict{Message: "the dead letter is resolved already", With: id}
		}
		entry = entries[0]
		return audit(ctx, tx, c)
	})
	return entry, err
}

const (
	replayColumns = `p.id, p.filter, p.rate, p.stop_on_failure, p.state, p.total, p.replayed,
    (SELECT count(*) FROM dead_letters n JOIN dead_letters o ON o.id = n.replay_of WHERE o.replay = p.id), p.created_by,
    p.created_at, p.ended_at`
	replayTables = ` FROM replays p JOIN apps a ON a.id = p.app AND a.deleted_at IS NULL `
)

func scanReplay(row pgx.CollectableRow) (r record.Replay, err error) {
	var by *uuid.UUID
	err = row.Scan(&r.ID, &r.Filter, &r.Rate, &r.StopOnFailure, &r.State, &r.Total, &r.Replayed, &r.Failed, &by, &r.CreatedAt,
		&r.EndedAt)
	r.CreatedBy = orNil(by)
	return r, err
}

const sqlReplayCreate = `
INSERT INTO replays (id, app, filter, rate, stop_on_failure, total, created_by)
VALUES ($1, $2, $3, $4, $5, $6, nullif($7::uuid, '00000000-0000-0000-0000-000000000000'))`

// StartReplay begins to put back every open dead letter that the filter finds now, rate of them a second.
func (s *DeadLetterStore) StartReplay(
	ctx context.Context, by, app uuid.UUID, f record.DeadLetterFilter, rate int, stopOnFailure bool,
) (record.Replay, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return record.Replay{}, fmt.Errorf("make replay id: %w", err)
	}
	f.Open = true
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := lockApp(ctx, tx, app); err != nil {
			return err
		}
		var total int
		if err := tx.QueryRow(ctx, sqlDeadLetterCount, filterArgs(app, &f)...).Scan(&total); err != nil {
			return fmt.Errorf("count dead letters: %w", err)
		}
		if _, err := tx.Exec(ctx, sqlReplayCreate, id, app, f, rate, stopOnFailure, total, by); err != nil {
			return fmt.Errorf("insert replay: %w", err)
		}
		return audit(ctx, tx, &change{by: by, app: app, action: "replay.start", object: id.String(), detail: f})
	})
	if err != nil {
		return record.Replay{}, err
	}
	return s.GetReplay(ctx, app, id)
}

const sqlReplayGet = `SELECT ` + replayColumns + replayTables + `WHERE p.app = $1 AND p.id = $2`

// GetReplay returns a replay with its progress, or tenant.ErrNotFound.
func (s *DeadLetterStore) GetReplay(ctx context.Context, app, id uuid.UUID) (record.Replay, error) {
	rows, _ := s.pool.Query(ctx, sqlReplayGet, app, id)
	r, err := pgx.CollectExactlyOneRow(rows, scanReplay)
	return r, missing("read replay", err)
}

const sqlReplayList = `SELECT ` + replayColumns + replayTables + `WHERE p.app = $1 AND p.id < $2 ORDER BY p.id DESC LIMIT $3`

// ListReplays returns up to limit replays, newest first, from cursor on, and the cursor of the next page.
func (s *DeadLetterStore) ListReplays(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]record.Replay, string, error) {
	before := lastID
	if err := decodeCursor(cursor, &before); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlReplayList, app, before, limit+1)
	list, err := pgx.CollectRows(rows, scanReplay)
	if err != nil {
		return nil, "", fmt.Errorf("list replays: %w", err)
	}
	list, next := page(list, limit, func(r *record.Replay) []any { return []any{r.ID} })
	return list, next, nil
}

const sqlReplayCancel = `
UPDATE replays SET state = 'cancelled', ended_at = clock_timestamp() WHERE app = $1 AND id = $2 AND state = 'running'`

// CancelReplay stops a replay; what was put back stays so. One that has ended is a *tenant.Conflict.
func (s *DeadLetterStore) CancelReplay(ctx context.Context, by, app, id uuid.UUID) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sqlReplayGet, app, id)
		if _, err := pgx.CollectExactlyOneRow(rows, scanReplay); err != nil {
			return missing("read replay", err)
		}
		tag, err := tx.Exec(ctx, sqlReplayCancel, app, id)
		switch {
		case err != nil:
			return fmt.Errorf("cancel replay: %w", err)
		case tag.RowsAffected() == 0:
			return &tenant.Conflict{Message: "the replay has ended already"}
		}
		return audit(ctx, tx, &change{by: by, app: app, action: "replay.cancel", object: id.String()})
	})
}

const (
	sqlReplayDue = `
SELECT p.id, p.app, p.filter, p.rate, p.stop_on_failure, p.created_at, a.deleted_at IS NOT NULL,
    (SELECT count(*) FROM dead_letters n JOIN dead_letters o ON o.id = n.replay_of WHERE o.replay = p.id)
FROM replays p JOIN apps a ON a.id = p.app
WHERE p.state = 'running' AND p.next_at <= clock_timestamp() ORDER BY p.next_at LIMIT 1 FOR UPDATE OF p SKIP LOCKED`

	sqlReplayNext = `
SELECT d.id` + deadLetterTables + `WHERE ` + deadLetterWhere + ` AND d.created_at <= $9 ORDER BY d.created_at, d.id LIMIT $10`

	// sqlReplayStep counts the next second from when this step was due, not from when a node looked: those look once a
	// second, and would come too early every other time. A step that is late does not make the next one follow at once.
	sqlReplayStep = `
UPDATE replays SET replayed = replayed + $2, failed = $3, state = $4,
    next_at = greatest(next_at + interval '1 second', clock_timestamp() + interval '500 milliseconds'),
    ended_at = CASE WHEN $4 <> 'running' THEN clock_timestamp() END
WHERE id = $1`
)

// StepReplay does a second's worth of one replay that is due. It returns how many letters it put back, and whether there
// was such a replay.
func (s *DeadLetterStore) StepReplay(ctx context.Context) (replayed int, did bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var r record.Replay
		var app uuid.UUID
		var deleted bool
		err := tx.QueryRow(ctx, sqlReplayDue).
			Scan(&r.ID, &app, &r.Filter, &r.Rate, &r.StopOnFailure, &r.CreatedAt, &deleted, &r.Failed)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for a replay: %w", err)
		}
		did = true
		state := "running"
		switch {
		case deleted:
			state = "cancelled"
		case r.StopOnFailure && r.Failed > 0:
			state = "stopped"
		default:
			rows, _ := tx.Query(ctx, sqlReplayNext, append(filterArgs(app, &r.Filter), r.CreatedAt, r.Rate)...)
			ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			if err != nil {
				return fmt.Errorf("list dead letters: %w", err)
			}
			entries, err := replayLetters(ctx, tx, app, ids, &r.ID, nil)
			if err != nil {
				return err
			}
			if replayed = len(entries); len(ids) == 0 {
				state = "done"
			}
		}
		if _, err := tx.Exec(ctx, sqlReplayStep, r.ID, replayed, r.Failed, state); err != nil {
			return fmt.Errorf("note progress of replay: %w", err)
		}
		return nil
	})
	return replayed, did, err
}
