package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// ResultStore reads what is kept of runs for those who asked for them.
type ResultStore struct{ pool *pgxpool.Pool }

// NewResultStore makes a store over pool.
func NewResultStore(pool *pgxpool.Pool) *ResultStore { return &ResultStore{pool} }

const sqlResultSecret = `SELECT secret FROM config`

// Secret returns what the tokens of results are made from. It is the same for all nodes and never changes.
func (s *ResultStore) Secret(ctx context.Context) (secret []byte, err error) {
	if err := s.pool.QueryRow(ctx, sqlResultSecret).Scan(&secret); err != nil {
		return nil, fmt.Errorf("read secret of results: %w", err)
	}
	return secret, nil
}

// sqlResultGet looks into all places where an entry can be. It is one statement, since an entry moves from one to the
// other in one transaction.
const sqlResultGet = `
SELECT o.state, x.outcome, coalesce(x.reason, ''), r.status, r.headers, r.body, r.kind, r.error
FROM (SELECT 1) AS q
LEFT JOIN results r ON r.id = $2 AND r.app = $1 AND r.expires_at > clock_timestamp()
LEFT JOIN outbox o ON o.id = $2 AND o.app = $1
LEFT JOIN LATERAL (
    SELECT e.outcome, e.reason FROM executions e
    WHERE r.id IS NULL AND o.id IS NULL AND e.id = $2 AND e.app = $1 AND e.finished_at >= $3 AND e.outcome <> 2
    ORDER BY e.finished_at DESC, e.attempt DESC LIMIT 1) x ON true
WHERE r.id IS NOT NULL OR o.id IS NOT NULL OR x.outcome IS NOT NULL`

// Get returns how far an entry of app has come, or tenant.ErrNotFound.
func (s *ResultStore) Get(ctx context.Context, app, id uuid.UUID) (*outbox.Result, error) {
	var r outbox.Result
	var a outbox.Answer
	var state *outbox.State
	var outcome *outbox.Outcome
	var status *int
	var headers []byte
	var kind, text *string
	err := s.pool.QueryRow(ctx, sqlResultGet, app, id, since(id)).
		Scan(&state, &outcome, &r.Reason, &status, &headers, &a.Body, &kind, &text)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, tenant.ErrNotFound
	case err != nil:
		return nil, fmt.Errorf("read result: %w", err)
	case status != nil:
		a.Status, a.Kind, a.Error = *status, *kind, *text
		if err := json.Unmarshal(headers, &a.Headers); err != nil {
			return nil, fmt.Errorf("decode headers of a result: %w", err)
		}
		r.Answer = &a
	case state != nil:
		r.State = *state
	case outcome != nil:
		r.Outcome = *outcome
	}
	return &r, nil
}

// sqlResultFree drops an idempotency key whose request was never started: it is as if it had not been accepted. A run that
// may have begun keeps its key.
const sqlResultFree = `
DELETE FROM idempotency_keys k
WHERE k.app = $1 AND k.scope = $2 AND k.key = $3 AND k.entry = $4
    AND NOT EXISTS (SELECT 1 FROM outbox WHERE id = $4) AND NOT EXISTS (SELECT 1 FROM results WHERE id = $4)
    AND EXISTS (SELECT 1 FROM executions e WHERE e.id = $4 AND e.app = $1 AND e.finished_at >= $5
        AND e.outcome IN (8, 9) AND (e.reason = 'unavailable' OR e.version = 0 AND e.reason <> 'node_lost'))`

// Free drops the idempotency key of a request that ended before anything was started, so that the same request may be
// sent again. It reports whether it did.
func (s *ResultStore) Free(ctx context.Context, app uuid.UUID, key *outbox.Idempotency, entry uuid.UUID) (bool, error) {
	tag, err := s.pool.Exec(ctx, sqlResultFree, app, key.Scope, key.Key, entry, since(entry))
	if err != nil {
		return false, fmt.Errorf("free an idempotency key: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

const (
	sqlResultPurge = `
DELETE FROM results WHERE id = ANY (ARRAY (
    SELECT id FROM results WHERE expires_at <= clock_timestamp() LIMIT 500 FOR UPDATE SKIP LOCKED))`

	sqlResultPurgeKeys = `
DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM idempotency_keys WHERE expires_at <= clock_timestamp() LIMIT 500 FOR UPDATE SKIP LOCKED))`
)

// Purge removes answers and idempotency keys whose day is over, some at a time, and returns how many.
func (s *ResultStore) Purge(ctx context.Context) (removed int64, err error) {
	for _, sql := range []string{sqlResultPurge, sqlResultPurgeKeys} {
		for {
			tag, err := s.pool.Exec(ctx, sql)
			if err != nil {
				return removed, fmt.Errorf("remove old results: %w", err)
			}
			removed += tag.RowsAffected()
			if tag.RowsAffected() < 500 {
				break
			}
		}
	}
	return removed, nil
}
