package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/tenant"
)

// ReleaseStore keeps the states that an app went through and brings one back.
type ReleaseStore struct{ pool *pgxpool.Pool }

// NewReleaseStore makes a store over pool.
func NewReleaseStore(pool *pgxpool.Pool) *ReleaseStore { return &ReleaseStore{pool} }

// Deploy stores a new version, makes it active and sees to its routes, all or nothing. Errors are also those of relink.
func (s *ReleaseStore) Deploy(ctx context.Context, by, app uuid.UUID, d tenant.Deployment) (tenant.Deployed, error) {
	var out tenant.Deployed
	c := &change{
		by: by, app: app, action: "deploy", object: d.Script,
		detail: map[string]any{"hash": d.Version.Hash, "routes": len(d.Routes)}, released: true,
	}
	release, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		script, err := deployScript(ctx, tx, app, &d)
		if err != nil {
			return err
		}
		out.Version = d.Version
		out.Version.Script, out.Version.CreatedBy = script, by
		if err := insertVersion(ctx, tx, app, &out.Version); err != nil {
			return err
		}
		if err := activateVersion(ctx, tx, app, script, out.Version.Number, d.Compiled); err != nil {
			return err
		}
		for i, r := range d.Routes {
			r.App, r.Script = app, script
			made, err := putRoute(ctx, tx, r)
			if invalid := (*tenant.Invalid)(nil); errors.As(err, &invalid) {
				return &tenant.Invalid{Field: fmt.Sprintf("routes[%d].%s", i, invalid.Field), Message: invalid.Message}
			}
			if err != nil {
				return err
			}
			out.Routes = append(out.Routes, made)
		}
		out.Script, err = getScript(ctx, tx, app, "", script)
		return err
	})
	out.Release = release
	return out, err
}

func deployScript(ctx context.Context, tx pgx.Tx, app uuid.UUID, d *tenant.Deployment) (uuid.UUID, error) {
	rows, _ := tx.Query(ctx, sqlScriptGet, app, d.Script, uuid.Nil)
	script, err := pgx.CollectExactlyOneRow(rows, scanScript)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		script = tenant.ScriptRecord{Script: tenant.Script{
			App: app, Name: d.Script, Kind: d.Kind, Engine: d.Engine, Timeout: d.Timeout, MaxAttempts: d.MaxAttempts,
		}}
		if d.Transactional != nil {
			script.Transactional = *d.Transactional
		}
		if script.ID, err = uuid.NewV7(); err != nil {
			return uuid.Nil, fmt.Errorf("make script id: %w", err)
		}
		return script.ID, insertScript(ctx, tx, &script)
	case err != nil:
		return uuid.Nil, fmt.Errorf("read script: %w", err)
	case script.Engine != d.Engine:
		return uuid.Nil, &tenant.Conflict{
			Message: fmt.Sprintf("the script %q runs on the engine %q; a script keeps its engine", script.Name, script.Engine),
			With:    script.ID,
		}
	case script.Kind != d.Kind:
		return uuid.Nil, &tenant.Conflict{
			Message: fmt.Sprintf("the script %q is of kind %s; a script keeps its kind", script.Name, script.Kind), With: script.ID,
		}
	}
	var timeout, attempts *int
	if d.Timeout > 0 {
		timeout = new(int(d.Timeout.Milliseconds()))
	}
	if d.MaxAttempts > 0 {
		attempts = &d.MaxAttempts
	}
	if _, err := tx.Exec(ctx, sqlScriptUpdate, app, script.ID, timeout, attempts, nil, nil, nil, d.Transactional, nil); err != nil {
		return uuid.Nil, fmt.Errorf("update script: %w", err)
	}
	return script.ID, nil
}

const sqlReleaseGet = `
SELECT r.number, r.action, r.manifest, r.created_by, r.created_at FROM releases r
JOIN apps a ON a.id = r.app AND a.deleted_at IS NULL WHERE r.app = $1 AND r.number = $2`

func scanRelease(row pgx.CollectableRow) (r tenant.Release, err error) {
	var by *uuid.UUID
	err = row.Scan(&r.Number, &r.Action, &r.Manifest, &by, &r.CreatedAt)
	r.CreatedBy = orNil(by)
	return r, err
}

// Get returns a release or tenant.ErrNotFound.
func (s *ReleaseStore) Get(ctx context.Context, app uuid.UUID, number int64) (tenant.Release, error) {
	rows, _ := s.pool.Query(ctx, sqlReleaseGet, app, number)
	r, err := pgx.CollectExactlyOneRow(rows, scanRelease)
	return r, missing("read release", err)
}

const sqlReleaseList = `
SELECT r.number, r.action, 'null'::jsonb, r.created_by, r.created_at FROM releases r
JOIN apps a ON a.id = r.app AND a.deleted_at IS NULL WHERE r.app = $1 AND r.number < $2 ORDER BY r.number DESC LIMIT $3`

// List returns up to limit releases, newest first, from cursor on, without their manifests, and the cursor of the next
// page.
func (s *ReleaseStore) List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.Release, string, error) {
	before := int64(math.MaxInt64)
	if err := decodeCursor(cursor, &before); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlReleaseList, app, before, limit+1)
	releases, err := pgx.CollectRows(rows, scanRelease)
	if err != nil {
		return nil, "", fmt.Errorf("list releases: %w", err)
	}
	releases, next := page(releases, limit, func(r *tenant.Release) []any { return []any{r.Number} })
	return releases, next, nil
}

// A release can come back only while every script that it runs exists.
const sqlReleaseLost = `
SELECT m->>'name' FROM releases r, jsonb_array_elements(r.manifest->'scripts') m
WHERE r.app = $1 AND r.number = $2
    AND NOT EXISTS (SELECT 1 FROM scripts s WHERE s.app = r.app AND s.id = (m->>'id')::uuid)
ORDER BY 1`

// Scripts that came after the release stay, but are not active.
const sqlReleaseScripts = `
UPDATE scripts s SET active_version = coalesce(m.version, 0), timeout_ms = coalesce(m.timeout_ms, s.timeout_ms),
    max_attempts = coalesce(m.max_attempts, s.max_attempts), policy = coalesce(m.policy, s.policy), limits = coalesce(m.limits, s.limits),
    transactional = coalesce(m.transactional, s.transactional), grants = CASE WHEN m.transactional IS NULL THEN s.grants ELSE m.grants END, updated_at = now()
FROM scripts o LEFT JOIN (
    SELECT m.* FROM releases r,
        jsonb_to_recordset(r.manifest->'scripts') 
        AS m (id uuid, version integer, timeout_ms integer, max_attempts smallint, policy jsonb, limits jsonb, transactional boolean, grants text[])
    WHERE r.app = $1 AND r.number = $2) m ON m.id = o.id
WHERE s.id = o.id AND s.app = $1`

const sqlReleaseClear = `DELETE FROM routes WHERE app = $1`

const sqlReleaseRoutes = `
SELECT m.id, m.script, m.method, m.host, m.pattern, m.mode, coalesce(m.wait_ms, 0) FROM releases r,
    jsonb_to_recordset(r.manifest->'routes')
        AS m (id uuid, script uuid, method text, host text, pattern text, mode text, wait_ms bigint)
WHERE r.app = $1 AND r.number = $2`

const sqlReleaseRoute = `
INSERT INTO routes (id, app, script, method, host, pattern, shape, mode, wait_ms)
SELECT $1, s.app, s.id, $4, $5, $6, $7, $8, nullif($9::int, 0) FROM scripts s WHERE s.app = $2 AND s.id = $3`

// Activate makes the app what it was in a release, as a new release, and returns the new number. It is a
// *tenant.Conflict if a script of the release was deleted meanwhile.
func (s *ReleaseStore) Activate(ctx context.Context, by, app uuid.UUID, number int64) (int64, error) {
	c := &change{
		by: by, app: app, action: "release.activate", object: fmt.Sprint(number), released: true,
	}
	return apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sqlReleaseGet, app, number)
		if _, err := pgx.CollectExactlyOneRow(rows, scanRelease); err != nil {
			return missing("read release", err)
		}
		rows, _ = tx.Query(ctx, sqlReleaseLost, app, number)
		lost, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("compare release: %w", err)
		}
		if len(lost) > 0 {
			return &tenant.Conflict{Message: fmt.Sprintf("release %d runs scripts that were deleted since: %q", number, lost)}
		}
		if _, err := tx.Exec(ctx, sqlReleaseScripts, app, number); err != nil {
			return fmt.Errorf("restore scripts: %w", err)
		}
		if err := linkable(ctx, tx, app); err != nil {
			return err
		}
		triggers, err := releasedTriggers(ctx, tx, app, number)
		if err != nil {
			return err
		}
		if err := restoreRoutes(ctx, tx, app, number); err != nil {
			return err
		}
		return restoreLanes(ctx, tx, app, number, triggers)
	})
}

const (
	// Triggers go with their routes, so they are kept aside while those are replaced. A release from before there were
	// triggers leaves them as they are.
	sqlReleaseTriggers = `
SELECT coalesce(r.manifest->'triggers', (SELECT coalesce(jsonb_agg(to_jsonb(t)), '[]') FROM triggers t WHERE t.app = $1))
FROM releases r WHERE r.app = $1 AND r.number = $2`

	sqlReleaseForget = `DELETE FROM triggers WHERE app = $1`

	sqlReleaseTrigger = `
INSERT INTO triggers (id, app, name, kind, script, sink, route, filter, policy, enabled, registered_by, created_at)
SELECT m.id, $1, m.name, m.kind, s.id, k.id, r.id, m.filter, m.policy, m.enabled, m.registered_by, m.created_at
FROM jsonb_to_recordset($2) AS m (id uuid, name text, kind text, script uuid, sink uuid, route uuid, filter jsonb, policy jsonb,
    enabled boolean, registered_by uuid, created_at timestamptz)
LEFT JOIN scripts s ON s.app = $1 AND s.id = m.script LEFT JOIN sinks k ON k.app = $1 AND k.id = m.sink
LEFT JOIN routes r ON r.app = $1 AND r.id = m.route
WHERE (m.route IS NULL OR r.id IS NOT NULL) AND coalesce(s.id, k.id) IS NOT NULL`

	// Queues that came after the release stay: they may have messages.
	sqlReleaseQueues = `
INSERT INTO queues (id, app, name, script, policy)
SELECT m.id, r.app, m.name, m.script, m.policy FROM releases r,
    jsonb_to_recordset(coalesce(r.manifest->'queues', '[]')) AS m (id uuid, name text, script uuid, policy jsonb)
WHERE r.app = $1 AND r.number = $2
ON CONFLICT (id) DO UPDATE SET script = excluded.script, policy = excluded.policy, updated_at = now()`
)

func releasedTriggers(ctx context.Context, tx pgx.Tx, app uuid.UUID, number int64) (triggers json.RawMessage, err error) {
	if err := tx.QueryRow(ctx, sqlReleaseTriggers, app, number).Scan(&triggers); err != nil {
		return nil, fmt.Errorf("read released triggers: %w", err)
	}
	return triggers, nil
}

func restoreLanes(ctx context.Context, tx pgx.Tx, app uuid.UUID, number int64, triggers json.RawMessage) error {
	if _, err := tx.Exec(ctx, sqlReleaseForget, app); err != nil {
		return fmt.Errorf("clear triggers: %w", err)
	}
	if _, err := tx.Exec(ctx, sqlReleaseTrigger, app, triggers); err != nil {
		return fmt.Errorf("restore triggers: %w", err)
	}
	_, err := tx.Exec(ctx, sqlReleaseQueues, app, number)
	switch {
	case duplicate(err):
		return &tenant.Conflict{Message: fmt.Sprintf("release %d has a queue of a name that another queue has by now", number)}
	case err != nil:
		return fmt.Errorf("restore queues: %w", err)
	}
	return nil
}

func restoreRoutes(ctx context.Context, tx pgx.Tx, app uuid.UUID, number int64) error {
	rows, _ := tx.Query(ctx, sqlReleaseRoutes, app, number)
	routes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r tenant.Route, err error) {
		var wait int64
		err = row.Scan(&r.ID, &r.Script, &r.Method, &r.Host, &r.Pattern, &r.Mode, &wait)
		r.Wait = time.Duration(wait) * time.Millisecond
		return r, err
	})
	if err != nil {
		return fmt.Errorf("read released routes: %w", err)
	}
	if _, err := tx.Exec(ctx, sqlReleaseClear, app); err != nil {
		return fmt.Errorf("clear routes: %w", err)
	}
	for _, r := range routes {
		pattern, err := tenant.ParsePattern(r.Pattern)
		if err != nil {
			return fmt.Errorf("read released routes: %w", err)
		}
		_, err = tx.Exec(ctx, sqlReleaseRoute, r.ID, app, r.Script, r.Method, r.Host, r.Pattern, pattern.Shape(), r.Mode,
			r.Wait.Milliseconds())
		if err != nil {
			return fmt.Errorf("restore route: %w", err)
		}
	}
	return nil
}
