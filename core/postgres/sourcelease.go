package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/source"
)

const (
	// sqlSourceClaim takes some of the sources that no live node has: as many as leave the others their share. What is left over is there
	// at the next look.
	sqlSourceClaim = `
WITH free AS (
    SELECT f.app, f.id FROM sources f JOIN apps a ON a.id = f.app AND a.deleted_at IS NULL
    WHERE f.enabled AND f.kind = ANY ($2) AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.epoch = f.owner)
), mine AS (
    SELECT f.app, f.id FROM sources f JOIN free USING (app, id)
    WHERE f.enabled AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.epoch = f.owner)
    LIMIT (SELECT ceil((SELECT count(*) FROM free)::numeric / greatest(1, (SELECT count(*) FROM nodes))))
    FOR UPDATE OF f SKIP LOCKED
)
UPDATE sources f SET owner = $1, claims = claims + 1, state = 'waiting' FROM mine
WHERE f.app = mine.app AND f.id = mine.id AND EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)`

	sqlSourceHeld = `SELECT app, id, owner, claims FROM sources WHERE owner = $1 AND enabled`
)

// Hold takes sources that nobody runs, of the kinds, for an epoch and returns all that it has.
func (s *SourceStore) Hold(ctx context.Context, owner int64, kinds []string) ([]source.Lease, error) {
	if _, err := s.pool.Exec(ctx, sqlSourceClaim, owner, kinds); err != nil {
		return nil, fmt.Errorf("claim sources: %w", err)
	}
	rows, _ := s.pool.Query(ctx, sqlSourceHeld, owner)
	leases, err := pgx.CollectRows(rows, pgx.RowToStructByPos[source.Lease])
	if err != nil {
		return nil, fmt.Errorf("read sources that are held: %w", err)
	}
	return leases, nil
}

// sourceHeld is true of the row of a lease that still counts: $1 to $4 are its fields.
const sourceHeld = ` app = $1 AND id = $2 AND owner = $3 AND claims = $4 AND enabled
    AND EXISTS (SELECT 1 FROM nodes WHERE epoch = $3) AND EXISTS (SELECT 1 FROM apps WHERE id = $1 AND deleted_at IS NULL)`

const (
	sqlSourceBegin = `UPDATE sources SET state = 'running' WHERE` + sourceHeld + ` RETURNING cursor`

	sqlSourceFailed = `UPDATE sources SET state = 'failed', error = $5, failed_at = now() WHERE` + sourceHeld

	sqlSourceTake = `
UPDATE sources SET cursor = $6, events = events + $7, last_event_at = now(), lag_ms = $8 WHERE cursor = $5 AND` + sourceHeld
)

// Begin says that an instance of the source begins, and returns where its events go on.
func (s *SourceStore) Begin(ctx context.Context, l source.Lease) (cursor string, err error) {
	var bytes []byte
	err = s.pool.QueryRow(ctx, sqlSourceBegin, l.App, l.Source, l.Owner, l.Claims).Scan(&bytes)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", source.ErrLost
	case err != nil:
		return "", fmt.Errorf("begin source: %w", err)
	}
	return string(bytes), nil
}

// Failed notes why an instance has ended.
func (s *SourceStore) Failed(ctx context.Context, l source.Lease, why string) error {
	if _, err := s.pool.Exec(ctx, sqlSourceFailed, l.App, l.Source, l.Owner, l.Claims, why); err != nil {
		return fmt.Errorf("note the failure of a source: %w", err)
	}
	return nil
}

// Take moves the cursor and writes entries, in one transaction. What has an idempotency key and was written before is left out.
func (s *SourceStore) Take(ctx context.Context, l source.Lease, t source.Taken, entries []*outbox.Entry) (written []*outbox.Entry, err error) {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("take events in: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // changes nothing after a commit
	tag, err := tx.Exec(ctx, sqlSourceTake, l.App, l.Source, l.Owner, l.Claims, []byte(t.Before), []byte(t.After), t.Events, int64(t.Lag/time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("move cursor: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return nil, source.ErrLost
	}
	failpoint.Hit(failpoint.DataChanged)
	if len(entries) > 0 {
		w := newKeyedWrite(tx, entries)
		if err := w.run(ctx, l.Owner, false); err != nil {
			return nil, rejected(err)
		}
		for i, refused := range w.refused {
			switch duplicate := (*outbox.Duplicate)(nil); {
			case refused == nil:
				written = append(written, entries[i])
			case !errors.As(refused, &duplicate):
				return nil, refused
			}
		}
	}
	failpoint.Hit(failpoint.DataCaused)
	if err := tx.Commit(ctx); err != nil {
		return nil, fmt.Errorf("take events in: %w: %w", outbox.ErrUnknown, err)
	}
	failpoint.Hit(failpoint.SourceCommitted)
	return written, nil
}

var _ source.Store = (*SourceStore)(nil)
