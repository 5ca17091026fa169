package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/tenant"
)

// TriggerStore keeps the triggers of apps.
type TriggerStore struct{ pool *pgxpool.Pool }

// NewTriggerStore makes a store over pool.
func NewTriggerStore(pool *pgxpool.Pool) *TriggerStore { return &TriggerStore{pool} }

const (
	triggerColumns = `t.id, t.app, t.name, t.kind, t.script, t.sink, t.route, t.filter, t.policy, t.enabled, t.registered_by,
    coalesce(s.name, ''), coalesce(k.name, ''), t.created_at, t.updated_at,
    EXISTS (SELECT 1 FROM pauses p WHERE p.app = t.app AND p.lane IN (t.id, t.script, t.sink, '00000000-0000-0000-0000-000000000000'))`
	triggerTables = ` FROM triggers t JOIN apps a ON a.id = t.app AND a.deleted_at IS NULL LEFT JOIN scripts s ON s.id = t.script
    LEFT JOIN sinks k ON k.app = t.app AND k.id = t.sink `
)

func scanTrigger(row pgx.CollectableRow) (t tenant.TriggerRecord, err error) {
	var script, sink, route, by *uuid.UUID
	err = row.Scan(&t.ID, &t.App, &t.Name, &t.Kind, &script, &sink, &route, &t.Filter, &t.Policy, &t.Enabled, &by, &t.ScriptName,
		&t.SinkName, &t.CreatedAt, &t.UpdatedAt, &t.Paused)
	t.Script, t.Sink, t.Route, t.RegisteredBy = orNil(script), orNil(sink), orNil(route), orNil(by)
	return t, err
}

const (
	sqlTriggerCreate = `
INSERT INTO triggers (id, app, name, kind, script, sink, route, filter, policy, enabled, registered_by)
SELECT $1, $2, $3, $4, x.script, x.sink, nullif($6::uuid, '00000000-0000-0000-0000-000000000000'), $7, $8, $9,
    nullif($10::uuid, '00000000-0000-0000-0000-000000000000')
FROM (SELECT s.id, NULL::uuid FROM scripts s WHERE s.app = $2 AND s.id = $5 AND s.kind = 'endpoint'
    UNION ALL SELECT NULL, k.id FROM sinks k WHERE k.app = $2 AND k.id = $11) AS x (script, sink)`

	// sqlTriggerRoute is the script of a route.
	sqlTriggerRoute = `SELECT script FROM routes WHERE app = $1 AND id = $2`
)

// Create makes a trigger. One of kind http takes the script of its route, which may have one trigger. A name or route in
// use is a *tenant.Conflict, a route, script or sink that the app does not have *tenant.Invalid.
func (s *TriggerStore) Create(ctx context.Context, t tenant.Trigger) (tenant.TriggerRecord, error) {
	var err error
	if t.ID, err = uuid.NewV7(); err != nil {
		return tenant.TriggerRecord{}, fmt.Errorf("make trigger id: %w", err)
	}
	c := &change{by: t.RegisteredBy, app: t.App, action: "trigger.create", object: t.Name, released: true}
	_, err = apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		if t.Kind == tenant.TriggerHTTP {
			err := tx.QueryRow(ctx, sqlTriggerRoute, t.App, t.Route).Scan(&t.Script)
			if errors.Is(err, pgx.ErrNoRows) {
				return &tenant.Invalid{Field: "route_id", Message: "the app has no route of that id"}
			}
			if err != nil {
				return fmt.Errorf("read route: %w", err)
			}
		}
		tag, err := tx.Exec(ctx, sqlTriggerCreate, t.ID, t.App, t.Name, t.Kind, t.Script, t.Route, t.Filter, t.Policy, t.Enabled,
			t.RegisteredBy, t.Sink)
		switch {
		case duplicate(err):
			return &tenant.Conflict{Message: "the app has a trigger of that name, or for that route, already"}
		case err != nil:
			return fmt.Errorf("insert trigger: %w", err)
		case tag.RowsAffected() == 0:
			return errNoTarget
		}
		return nil
	})
	if err != nil {
		return tenant.TriggerRecord{}, err
	}
	return s.Get(ctx, t.App, t.ID.String())
}

const sqlTriggerGet = `SELECT ` + triggerColumns + triggerTables + `WHERE t.app = $1 AND (t.name = $2 OR t.id = $3)`

// Get returns the trigger that ref names by name or id, or tenant.ErrNotFound.
func (s *TriggerStore) Get(ctx context.Context, app uuid.UUID, ref string) (tenant.TriggerRecord, error) {
	rows, _ := s.pool.Query(ctx, sqlTriggerGet, app, ref, parseID(ref))
	t, err := pgx.CollectExactlyOneRow(rows, scanTrigger)
	return t, missing("read trigger", err)
}

const sqlTriggerList = `SELECT ` + triggerColumns + triggerTables + `WHERE t.app = $1 AND t.name > $2 ORDER BY t.name LIMIT $3`

// List returns up to limit triggers by name from cursor on, and the cursor of the next page.
func (s *TriggerStore) List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.TriggerRecord, string, error) {
	var after string
	if err := decodeCursor(cursor, &after); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlTriggerList, app, after, limit+1)
	triggers, err := pgx.CollectRows(rows, scanTrigger)
	if err != nil {
		return nil, "", fmt.Errorf("list triggers: %w", err)
	}
	triggers, next := page(triggers, limit, func(t *tenant.TriggerRecord) []any { return []any{t.Name} })
	return triggers, next, nil
}

const sqlTriggerUpdate = `
UPDATE triggers SET policy = coalesce($3, policy), filter = coalesce($4, filter), enabled = coalesce($5, enabled),
    updated_at = now()
WHERE app = $1 AND id = $2`

// Update changes a trigger; nil leaves a field.
func (s *TriggerStore) Update(
	ctx context.Context, by, app, id uuid.UUID, policy *tenant.Policy, filter *tenant.TriggerFilter, enabled *bool,
) (tenant.TriggerRecord, error) {
	c := &change{
		by: by, app: app, action: "trigger.update", object: id.String(), released: true,
		detail: map[string]any{"policy": policy, "filter": filter, "enabled": enabled},
	}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		return execOne(ctx, tx, "update trigger", sqlTriggerUpdate, app, id, policy, filter, enabled)
	})
	if err != nil {
		return tenant.TriggerRecord{}, err
	}
	return s.Get(ctx, app, id.String())
}

const sqlTriggerDelete = `DELETE FROM triggers WHERE app = $1 AND id = $2`

// Delete removes a trigger. Its entries that wait still run.
func (s *TriggerStore) Delete(ctx context.Context, by, app, id uuid.UUID) error {
	c := &change{by: by, app: app, action: "trigger.delete", object: id.String(), released: true}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		return execOne(ctx, tx, "delete trigger", sqlTriggerDelete, app, id)
	})
	return err
}
