package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/tenant"
)

// ScriptStore keeps scripts. Every statement names the app, so an id of another app finds nothing.
type ScriptStore struct{ pool *pgxpool.Pool }

// NewScriptStore makes a store over pool.
func NewScriptStore(pool *pgxpool.Pool) *ScriptStore { return &ScriptStore{pool} }

const (
	scriptColumns = `s.id, s.app, s.name, s.kind, s.engine, s.active_version, coalesce(v.hash, ''), s.timeout_ms,
    s.max_attempts, s.policy, s.limits, s.transactional, s.grants, s.description, s.created_at, s.updated_at,
    ARRAY(SELECT i.module FROM script_imports i WHERE i.script = s.id AND i.version = s.active_version ORDER BY i.module)`
	scriptTables = ` FROM scripts s JOIN apps a ON a.id = s.app AND a.deleted_at IS NULL
    LEFT JOIN script_versions v ON v.script = s.id AND v.number = s.active_version `
)

func scanScript(row pgx.CollectableRow) (s tenant.ScriptRecord, err error) {
	var timeout int64
	err = row.Scan(&s.ID, &s.App, &s.Name, &s.Kind, &s.Engine, &s.Version, &s.VersionHash, &timeout, &s.MaxAttempts,
		&s.Policy, &s.Limits, &s.Transactional, &s.Grants, &s.Description, &s.CreatedAt, &s.UpdatedAt, &s.Imports)
	s.Timeout = time.Duration(timeout) * time.Millisecond
	return s, err
}

const sqlScriptCreate = `
INSERT INTO scripts (id, app, name, kind, engine, description, timeout_ms, max_attempts, transactional)
VALUES ($1, $2, $3, $4, $5, $6, coalesce(nullif($7, 0), 30000), coalesce(nullif($8::smallint, 0), 5), $9)
ON CONFLICT (app, name) DO NOTHING`

func insertScript(ctx context.Context, tx pgx.Tx, r *tenant.ScriptRecord) error {
	tag, err := tx.Exec(ctx, sqlScriptCreate, r.ID, r.App, r.Name, r.Kind, r.Engine, r.Description,
		r.Timeout.Milliseconds(), r.MaxAttempts, r.Transactional)
	if err != nil {
		return fmt.Errorf("insert script: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return &tenant.Conflict{Message: fmt.Sprintf("the app has a script named %q already", r.Name)}
	}
	return nil
}

// Create makes a script without a version. A zero timeout or number of attempts means the default; a name in use is a
// *tenant.Conflict.
func (s *ScriptStore) Create(ctx context.Context, by uuid.UUID, r tenant.ScriptRecord) (tenant.ScriptRecord, error) {
	var err error
	if r.ID, err = uuid.NewV7(); err != nil {
		return r, fmt.Errorf("make script id: %w", err)
	}
	c := &change{by: by, app: r.App, action: "script.create", object: r.Name}
	_, err = apply(ctx, s.pool, c, func(tx pgx.Tx) error { return insertScript(ctx, tx, &r) })
	if err != nil {
		return tenant.ScriptRecord{}, err
	}
	return s.Get(ctx, r.App, r.ID.String())
}

const sqlScriptGet = `SELECT ` + scriptColumns + scriptTables + `WHERE s.app = $1 AND (s.name = $2 OR s.id = $3)`

// Get returns the script that ref names by name or id, or tenant.ErrNotFound.
func (s *ScriptStore) Get(ctx context.Context, app uuid.UUID, ref string) (tenant.ScriptRecord, error) {
	return getScript(ctx, s.pool, app, ref, parseID(ref))
}

func getScript(ctx context.Context, db querier, app uuid.UUID, name string, id uuid.UUID) (tenant.ScriptRecord, error) {
	rows, _ := db.Query(ctx, sqlScriptGet, app, name, id)
	r, err := pgx.CollectExactlyOneRow(rows, scanScript)
	if err != nil {
		return r, missing("read script", err)
	}
	one := []tenant.ScriptRecord{r}
	err = readImporters(ctx, db, app, one)
	return one[0], err
}

const sqlScriptList = `SELECT ` + scriptColumns + scriptTables + `WHERE s.app = $1 AND s.name > $2 ORDER BY s.name LIMIT $3`

// List returns up to limit scripts by name from cursor on, and the cursor of the next page.
func (s *ScriptStore) List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.ScriptRecord, string, error) {
	var after string
	if err := decodeCursor(cursor, &after); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlScriptList, app, after, limit+1)
	scripts, err := pgx.CollectRows(rows, scanScript)
	if err != nil {
		return nil, "", fmt.Errorf("list scripts: %w", err)
	}
	scripts, next := page(scripts, limit, func(r *tenant.ScriptRecord) []any { return []any{r.Name} })
	return scripts, next, readImporters(ctx, s.pool, app, scripts)
}

// sqlScriptImporters stands alone: in the statements above it would be run for each script, also where nobody wants to know.
const sqlScriptImporters = `
SELECT i.module, u.name FROM script_imports i JOIN scripts u ON u.id = i.script AND u.active_version = i.version
WHERE i.app = $1 AND i.module = ANY($2) ORDER BY i.module, u.name`

// readImporters says of scripts by whom they are imported.
func readImporters(ctx context.Context, db querier, app uuid.UUID, of []tenant.ScriptRecord) error {
	at := make(map[string]int, len(of))
	for i := range of {
		at[of[i].Name] = i
	}
	rows, _ := db.Query(ctx, sqlScriptImporters, app, slices.Collect(maps.Keys(at)))
	var module, importer string
	_, err := pgx.ForEachRow(rows, []any{&module, &importer}, func() error {
		r := &of[at[module]]
		r.ImportedBy = append(r.ImportedBy, importer)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read importers: %w", err)
	}
	return nil
}

const sqlScriptUpdate = `
UPDATE scripts SET timeout_ms = coalesce($3, timeout_ms), max_attempts = coalesce($4, max_attempts),
    description = coalesce($5, description), policy = coalesce($6, policy), limits = coalesce($7, limits),
    transactional = coalesce($8, transactional), grants = coalesce($9, grants), updated_at = now()
WHERE id = $2 AND app = $1`

// Update changes a script.
func (s *ScriptStore) Update(ctx context.Context, by, app, id uuid.UUID, u tenant.ScriptUpdate) (tenant.ScriptRecord, error) {
	c := &change{
		by: by, app: app, action: "script.update", object: id.String(), detail: u,
		released: u.TimeoutMS != nil || u.MaxAttempts != nil || u.Policy != nil || u.Limits != nil ||
			u.Transactional != nil || u.Grants != nil,
	}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		return execOne(ctx, tx, "update script", sqlScriptUpdate, app, id, u.TimeoutMS, u.MaxAttempts, u.Description, u.Policy,
			u.Limits, u.Transactional, u.Grants)
	})
	if err != nil {
		return tenant.ScriptRecord{}, err
	}
	return s.Get(ctx, app, id.String())
}

const (
	sqlScriptQueues = `SELECT name FROM queues WHERE app = $1 AND script = $2 ORDER BY name LIMIT 3`
	sqlScriptDelete = `DELETE FROM scripts WHERE id = $2 AND app = $1`
)

// Delete removes a script with its versions, routes and triggers. Its entries that wait become dead letters when they are
// due. While a queue sends to it, or scripts import it, it is a *tenant.Conflict.
func (s *ScriptStore) Delete(ctx context.Context, by, app, id uuid.UUID) error {
	c := &change{by: by, app: app, action: "script.delete", object: id.String(), released: true}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sqlScriptQueues, app, id)
		queues, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("read queues: %w", err)
		}
		if len(queues) > 0 {
			return &tenant.Conflict{Message: fmt.Sprintf("queues send to the script: %q; delete them or give them another", queues)}
		}
		r, err := getScript(ctx, tx, app, "", id)
		if err != nil {
			return err
		}
		if len(r.ImportedBy) > 0 {
			return &tenant.Conflict{Message: "the module is imported by: " + strings.Join(r.ImportedBy, ", ")}
		}
		return execOne(ctx, tx, "delete script", sqlScriptDelete, app, id)
	})
	return err
}
