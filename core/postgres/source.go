package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/tenant"
)

// SourceStore keeps the sources of apps, and which node runs them.
type SourceStore struct{ pool *pgxpool.Pool }

// NewSourceStore makes a store over pool.
func NewSourceStore(pool *pgxpool.Pool) *SourceStore { return &SourceStore{pool} }

const (
	sourceColumns = `f.id, f.app, f.name, f.kind, f.version, f.config, f.enabled, CASE WHEN n.epoch IS NULL THEN 'waiting' ELSE f.state END,
    coalesce(n.name, ''), f.error, coalesce(f.failed_at, '0001-01-01'), coalesce(f.last_event_at, '0001-01-01'), f.lag_ms, f.events,
    f.created_at, f.updated_at`
	sourceTables = ` FROM sources f JOIN apps a ON a.id = f.app AND a.deleted_at IS NULL LEFT JOIN nodes n ON n.epoch = f.owner `
)

func scanSource(row pgx.CollectableRow) (f tenant.SourceRecord, err error) {
	var lag int64
	err = row.Scan(&f.ID, &f.App, &f.Name, &f.Kind, &f.Version, &f.Config, &f.Enabled, &f.State, &f.Node, &f.Error, &f.FailedAt,
		&f.LastEventAt, &lag, &f.Events, &f.CreatedAt, &f.UpdatedAt)
	f.Lag = time.Duration(lag) * time.Millisecond
	return f, err
}

const (
	sqlSourceCount = `SELECT count(*) FROM sources WHERE app = $1`

	sqlSourceCreate = `
INSERT INTO sources (app, id, name, kind, config, enabled) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (app, name) DO NOTHING`
)

// Create makes a source. A name in use, or one source too many, is a *tenant.Conflict.
func (s *SourceStore) Create(ctx context.Context, by uuid.UUID, f tenant.Source) (tenant.SourceRecord, error) {
	var err error
	if f.ID, err = uuid.NewV7(); err != nil {
		return tenant.SourceRecord{}, fmt.Errorf("make source id: %w", err)
	}
	c := &change{by: by, app: f.App, action: "source.create", object: f.Name}
	_, err = apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, sqlSourceCount, f.App).Scan(&n); err != nil {
			return fmt.Errorf("count sources: %w", err)
		}
		if n >= tenant.MaxSourcesPerApp {
			return &tenant.Conflict{Message: fmt.Sprintf("the app has %d sources, and no more are kept", n)}
		}
		tag, err := tx.Exec(ctx, sqlSourceCreate, f.App, f.ID, f.Name, f.Kind, f.Config, f.Enabled)
		if err != nil {
			return fmt.Errorf("insert source: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return &tenant.Conflict{Message: fmt.Sprintf("the app has a source named %q already", f.Name)}
		}
		return nil
	})
	if err != nil {
		return tenant.SourceRecord{}, err
	}
	return s.Get(ctx, f.App, f.ID.String())
}

const sqlSourceGet = `SELECT ` + sourceColumns + sourceTables + `WHERE f.app = $1 AND (f.name = $2 OR f.id = $3)`

// Get returns the source that ref names by name or id, or tenant.ErrNotFound.
func (s *SourceStore) Get(ctx context.Context, app uuid.UUID, ref string) (tenant.SourceRecord, error) {
	rows, _ := s.pool.Query(ctx, sqlSourceGet, app, ref, parseID(ref))
	f, err := pgx.CollectExactlyOneRow(rows, scanSource)
	return f, missing("read source", err)
}

const sqlSourceList = `SELECT ` + sourceColumns + sourceTables + `WHERE f.app = $1 AND f.name > $2 ORDER BY f.name LIMIT $3`

// List returns up to limit sources by name from cursor on, and the cursor of the next page.
func (s *SourceStore) List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.SourceRecord, string, error) {
	var after string
	if err := decodeCursor(cursor, &after); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlSourceList, app, after, limit+1)
	sources, err := pgx.CollectRows(rows, scanSource)
	if err != nil {
		return nil, "", fmt.Errorf("list sources: %w", err)
	}
	sources, next := page(sources, limit, func(f *tenant.SourceRecord) []any { return []any{f.Name} })
	return sources, next, nil
}

// sqlSourceUpdate takes the source from the node that runs it: what that has not committed by now it will not.
const sqlSourceUpdate = `
UPDATE sources SET config = coalesce($3, config), enabled = coalesce($4, enabled), version = version + 1, owner = 0, state = 'waiting',
    error = '', failed_at = NULL, updated_at = now()
WHERE app = $1 AND id = $2`

// Update changes a source, which goes on where it was.
func (s *SourceStore) Update(ctx context.Context, by, app, id uuid.UUID, u tenant.SourceUpdate) (tenant.SourceRecord, error) {
	c := &change{by: by, app: app, action: "source.update", object: id.String(), detail: u}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		return execOne(ctx, tx, "update source", sqlSourceUpdate, app, id, u.Config, u.Enabled)
	})
	if err != nil {
		return tenant.SourceRecord{}, err
	}
	return s.Get(ctx, app, id.String())
}

const sqlSourceDelete = `DELETE FROM sources WHERE app = $1 AND id = $2`

// Delete removes a source, and where it was.
func (s *SourceStore) Delete(ctx context.Context, by, app, id uuid.UUID) error {
	c := &change{by: by, app: app, action: "source.delete", object: id.String()}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		return execOne(ctx, tx, "delete source", sqlSourceDelete, app, id)
	})
	return err
}
