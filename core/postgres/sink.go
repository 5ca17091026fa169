package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/tenant"
)

// SinkStore keeps the sinks of apps.
type SinkStore struct{ pool *pgxpool.Pool }

// NewSinkStore makes a store over pool.
func NewSinkStore(pool *pgxpool.Pool) *SinkStore { return &SinkStore{pool} }

const (
	sinkColumns = `k.id, k.app, k.name, k.kind, k.version, k.config, k.timeout_ms, k.max_attempts, k.policy, k.created_at, k.updated_at,
    EXISTS (SELECT 1 FROM pauses p WHERE p.app = k.app AND p.lane IN (k.id, '00000000-0000-0000-0000-000000000000'))`
	sinkTables = ` FROM sinks k JOIN apps a ON a.id = k.app AND a.deleted_at IS NULL `

	// The names of the sinks that executions and dead letters went to, where sinks are joined as k. The id is tenant.EmailSink.
	sinkOfExecution = `coalesce(k.name, CASE WHEN e.script = '00000000-0000-8000-8000-656d61696c00' THEN 'email' END, '')`
	sinkOfLetter    = `coalesce(k.name, CASE WHEN d.target = '00000000-0000-8000-8000-656d61696c00' THEN 'email' END, '')`
)

func scanSink(row pgx.CollectableRow) (k tenant.SinkRecord, err error) {
	var timeout int64
	err = row.Scan(&k.ID, &k.App, &k.Name, &k.Kind, &k.Version, &k.Config, &timeout, &k.MaxAttempts, &k.Policy, &k.CreatedAt, &k.UpdatedAt,
		&k.Paused)
	k.Timeout = time.Duration(timeout) * time.Millisecond
	return k, err
}

const (
	sqlSinkCount = `SELECT count(*) FROM sinks WHERE app = $1`

	sqlSinkCreate = `
INSERT INTO sinks (app, id, name, kind, config, timeout_ms, max_attempts, policy) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (app, name) DO NOTHING`
)

// Create makes a sink. A name in use, or one sink too many, is a *tenant.Conflict.
func (s *SinkStore) Create(ctx context.Context, by uuid.UUID, k tenant.Sink) (tenant.SinkRecord, error) {
	var err error
	if k.ID, err = uuid.NewV7(); err != nil {
		return tenant.SinkRecord{}, fmt.Errorf("make sink id: %w", err)
	}
	c := &change{by: by, app: k.App, action: "sink.create", object: k.Name, released: true}
	_, err = apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, sqlSinkCount, k.App).Scan(&n); err != nil {
			return fmt.Errorf("count sinks: %w", err)
		}
		if n >= tenant.MaxSinksPerApp {
			return &tenant.Conflict{Message: fmt.Sprintf("the app has %d sinks, and no more are kept", n)}
		}
		tag, err := tx.Exec(ctx, sqlSinkCreate, k.App, k.ID, k.Name, k.Kind, k.Config, k.Timeout.Milliseconds(), k.MaxAttempts, k.Policy)
		if err != nil {
			return fmt.Errorf("insert sink: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return &tenant.Conflict{Message: fmt.Sprintf("the app has a sink named %q already", k.Name)}
		}
		return nil
	})
	if err != nil {
		return tenant.SinkRecord{}, err
	}
	return s.Get(ctx, k.App, k.ID.String())
}

const sqlSinkGet = `SELECT ` + sinkColumns + sinkTables + `WHERE k.app = $1 AND (k.name = $2 OR k.id = $3)`

// Get returns the sink that ref names by name or id, or tenant.ErrNotFound.
func (s *SinkStore) Get(ctx context.Context, app uuid.UUID, ref string) (tenant.SinkRecord, error) {
	rows, _ := s.pool.Query(ctx, sqlSinkGet, app, ref, parseID(ref))
	k, err := pgx.CollectExactlyOneRow(rows, scanSink)
	return k, missing("read sink", err)
}

const sqlSinkList = `SELECT ` + sinkColumns + sinkTables + `WHERE k.app = $1 AND k.name > $2 ORDER BY k.name LIMIT $3`

// List returns up to limit sinks by name from cursor on, and the cursor of the next page.
func (s *SinkStore) List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.SinkRecord, string, error) {
	var after string
	if err := decodeCursor(cursor, &after); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlSinkList, app, after, limit+1)
	sinks, err := pgx.CollectRows(rows, scanSink)
	if err != nil {
		return nil, "", fmt.Errorf("list sinks: %w", err)
	}
	sinks, next := page(sinks, limit, func(k *tenant.SinkRecord) []any { return []any{k.Name} })
	return sinks, next, nil
}

const sqlSinkUpdate = `
UPDATE sinks SET config = coalesce($3, config), version = version + CASE WHEN $3::jsonb IS NULL THEN 0 ELSE 1 END,
    timeout_ms = coalesce($4, timeout_ms), max_attempts = coalesce($5, max_attempts), policy = coalesce($6, policy), updated_at = now()
WHERE app = $1 AND id = $2`

// Update changes a sink. What waits for it is delivered as it is then.
func (s *SinkStore) Update(ctx context.Context, by, app, id uuid.UUID, u tenant.SinkUpdate) (tenant.SinkRecord, error) {
	c := &change{by: by, app: app, action: "sink.update", object: id.String(), detail: u, released: true}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		return execOne(ctx, tx, "update sink", sqlSinkUpdate, app, id, u.Config, u.TimeoutMS, u.MaxAttempts, u.Policy)
	})
	if err != nil {
		return tenant.SinkRecord{}, err
	}
	return s.Get(ctx, app, id.String())
}

const (
	sqlSinkUsers = `SELECT name FROM triggers WHERE app = $1 AND sink = $2 ORDER BY name LIMIT 20`

	sqlSinkDelete = `DELETE FROM sinks WHERE app = $1 AND id = $2`
)

// Delete removes a sink to which no trigger leads; else it is a *tenant.Conflict that names them. What waits for it becomes dead
// letters when it is due.
func (s *SinkStore) Delete(ctx context.Context, by, app, id uuid.UUID) error {
	c := &change{by: by, app: app, action: "sink.delete", object: id.String(), released: true}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sqlSinkUsers, app, id)
		users, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("read triggers: %w", err)
		}
		if len(users) > 0 {
			return &tenant.Conflict{Message: "triggers lead to the sink: " + strings.Join(users, ", ") + "; delete them first"}
		}
		return execOne(ctx, tx, "delete sink", sqlSinkDelete, app, id)
	})
	return err
}
