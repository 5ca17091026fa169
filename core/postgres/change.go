package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/tenant"
)

// change is one step in the configuration of the instance or of one app, and what the audit log says of it.
type change struct {
	by      uuid.UUID // nil: the platform itself
	app     uuid.UUID // nil: the instance
	action  string    // "noun.verb"
	object  string    // what it was done to
	detail  any       // JSON; nil: nothing more to say
	creates bool      // the app itself
	// released says that the active versions or the routes of the app may differ afterwards.
	released bool
}

// Only one change of an app runs at a time, so that each release's manifest is whole and numbers have no gaps.
const sqlChangeLockApp = `SELECT 1 FROM apps WHERE id = $1 AND deleted_at IS NULL FOR UPDATE`

const sqlChangeConfig = `UPDATE config SET version = version + 1 RETURNING version`

const sqlChangeApp = `
UPDATE apps SET config_version = $2, release = release + $3, updated_at = now() WHERE id = $1 RETURNING release`

const sqlChangeRelease = `
INSERT INTO releases (app, number, action, manifest, created_by, told)
SELECT $1, $2, $3, jsonb_build_object(
    'scripts', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', id, 'name', name, 'kind', kind, 'engine', engine,
        'version', active_version, 'timeout_ms', timeout_ms, 'max_attempts', max_attempts, 'policy', policy, 'limits', limits, 'transactional',
        transactional, 'grants', grants) ORDER BY name), '[]')
        FROM scripts WHERE app = $1),
    'routes', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', id, 'script', script, 'method', method, 'host', host,
        'pattern', pattern, 'mode', mode, 'wait_ms', wait_ms) ORDER BY id), '[]')
        FROM routes WHERE app = $1),
    'queues', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', id, 'name', name, 'script', script, 'policy', policy)
        ORDER BY name), '[]') FROM queues WHERE app = $1),
    'triggers', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', id, 'name', name, 'kind', kind, 'script', script,
        'sink', sink, 'route', route, 'filter', filter, 'policy', policy, 'enabled', enabled, 'registered_by', registered_by,
        'created_at', created_at) ORDER BY name), '[]')
        FROM triggers WHERE app = $1)),
    nullif($4::uuid, '00000000-0000-0000-0000-000000000000'),
    $3 NOT IN ('deploy', 'version.activate', 'release.activate') OR NOT EXISTS (SELECT 1 FROM triggers WHERE app = $1 AND kind = 'app')`

const sqlChangeAudit = `
INSERT INTO audit_log (actor, app, action, object, detail)
VALUES (nullif($1::uuid, '00000000-0000-0000-0000-000000000000'), nullif($2::uuid, '00000000-0000-0000-0000-000000000000'),
    $3, $4, $5)`

// apply runs write and everything that belongs to a change in one transaction: the release, the audit log, and the
// number by which nodes notice. It returns the app's release. Without the app it is tenant.ErrNotFound.
func apply(ctx context.Context, pool *pgxpool.Pool, c *change, write func(tx pgx.Tx) error) (release int64, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if c.app != uuid.Nil && !c.creates {
			if err := lockApp(ctx, tx, c.app); err != nil {
				return err
			}
		}
		if err := write(tx); err != nil {
			return err
		}
		if err := audit(ctx, tx, c); err != nil {
			return err
		}
		var version int64
		if err := tx.QueryRow(ctx, sqlChangeConfig).Scan(&version); err != nil {
			return fmt.Errorf("raise config version: %w", err)
		}
		if c.app == uuid.Nil {
			return nil
		}
		step := 0
		if c.released {
			step = 1
		}
		if err := tx.QueryRow(ctx, sqlChangeApp, c.app, version, step).Scan(&release); err != nil {
			return fmt.Errorf("raise app release: %w", err)
		}
		if !c.released {
			return nil
		}
		if _, err := tx.Exec(ctx, sqlChangeRelease, c.app, release, c.action, c.by); err != nil {
			return fmt.Errorf("write release: %w", err)
		}
		return nil
	})
	return release, err
}

func lockApp(ctx context.Context, tx pgx.Tx, app uuid.UUID) error {
	var one int
	switch err := tx.QueryRow(ctx, sqlChangeLockApp, app).Scan(&one); {
	case errors.Is(err, pgx.ErrNoRows):
		return tenant.ErrNotFound
	case err != nil:
		return fmt.Errorf("lock app: %w", err)
	}
	return nil
}

func audit(ctx context.Context, tx pgx.Tx, c *change) error {
	detail := []byte("{}")
	if c.detail != nil {
		var err error
		if detail, err = json.Marshal(c.detail); err != nil {
			return fmt.Errorf("encode audit detail: %w", err)
		}
	}
	if _, err := tx.Exec(ctx, sqlChangeAudit, c.by, c.app, c.action, c.object, detail); err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	return nil
}

// execOne runs a statement that changes one row; where there is none it is tenant.ErrNotFound.
func execOne(ctx context.Context, tx pgx.Tx, doing, sql string, args ...any) error {
	tag, err := tx.Exec(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if tag.RowsAffected() == 0 {
		return tenant.ErrNotFound
	}
	return nil
}

// duplicate reports whether err says that a unique key exists already.
func duplicate(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505"
}

// missing turns "no row" into tenant.ErrNotFound and leaves other errors, with what was tried, as they are.
func missing(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return tenant.ErrNotFound
	}
	return fmt.Errorf("%s: %w", doing, err)
}
