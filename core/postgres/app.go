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

// AppStore keeps apps and the hosts they claim.
type AppStore struct{ pool *pgxpool.Pool }

// NewAppStore makes a store over pool.
func NewAppStore(pool *pgxpool.Pool) *AppStore { return &AppStore{pool} }

const appColumns = `id, slug, name, description, release, weight, limits, created_at, updated_at`

func scanApp(row pgx.CollectableRow) (a tenant.AppRecord, err error) {
	err = row.Scan(&a.ID, &a.Slug, &a.Name, &a.Description, &a.Release, &a.Weight, &a.Limits, &a.CreatedAt, &a.UpdatedAt)
	return a, err
}

const sqlAppCreate = `
INSERT INTO apps (id, slug, name, description) VALUES ($1, $2, $3, $4)
ON CONFLICT (slug) WHERE deleted_at IS NULL DO NOTHING`

// Create makes an app of slug, name and description. A slug in use is a *tenant.Conflict.
func (s *AppStore) Create(ctx context.Context, by uuid.UUID, a tenant.AppRecord) (tenant.AppRecord, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return tenant.AppRecord{}, fmt.Errorf("make app id: %w", err)
	}
	c := &change{by: by, app: id, creates: true, action: "app.create", object: a.Slug}
	_, err = apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlAppCreate, id, a.Slug, a.Name, a.Description)
		if err != nil {
			return fmt.Errorf("insert app: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return &tenant.Conflict{Message: fmt.Sprintf("an app has the slug %q already", a.Slug)}
		}
		return nil
	})
	if err != nil {
		return tenant.AppRecord{}, err
	}
	return s.Get(ctx, id)
}

const sqlAppGet = `SELECT ` + appColumns + ` FROM apps WHERE id = $1 AND deleted_at IS NULL`

// Get returns an app or tenant.ErrNotFound.
func (s *AppStore) Get(ctx context.Context, id uuid.UUID) (tenant.AppRecord, error) {
	rows, _ := s.pool.Query(ctx, sqlAppGet, id)
	a, err := pgx.CollectExactlyOneRow(rows, scanApp)
	return a, missing("read app", err)
}

const sqlAppResolve = `SELECT id FROM apps WHERE (slug = $1 OR id = $2) AND deleted_at IS NULL`

// Resolve returns the id of the app that ref names by slug or id, or tenant.ErrNotFound.
func (s *AppStore) Resolve(ctx context.Context, ref string) (uuid.UUID, error) {
	var id uuid.UUID
	err := s.pool.QueryRow(ctx, sqlAppResolve, ref, parseID(ref)).Scan(&id)
	return id, missing("resolve app", err)
}

// parseID returns the id that ref is, or the nil id, which nothing has.
func parseID(ref string) uuid.UUID {
	if len(ref) != 36 {
		return uuid.Nil
	}
	id, _ := uuid.Parse(ref)
	return id
}

const sqlAppList = `
SELECT ` + appColumns + ` FROM apps
WHERE slug > $1 AND deleted_at IS NULL AND ($2::uuid = '00000000-0000-0000-0000-000000000000' OR id = $2)
ORDER BY slug LIMIT $3`

// List returns up to limit apps by slug from cursor on, and the cursor of the next page; only is the one app to see, or
// nil for all.
func (s *AppStore) List(ctx context.Context, only uuid.UUID, cursor string, limit int) ([]tenant.AppRecord, string, error) {
	var after string
	if err := decodeCursor(cursor, &after); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlAppList, after, only, limit+1)
	apps, err := pgx.CollectRows(rows, scanApp)
	if err != nil {
		return nil, "", fmt.Errorf("list apps: %w", err)
	}
	apps, next := page(apps, limit, func(a *tenant.AppRecord) []any { return []any{a.Slug} })
	return apps, next, nil
}

const sqlAppUpdate = `
UPDATE apps SET slug = coalesce($2, slug), name = coalesce($3, name), description = coalesce($4, description)
WHERE id = $1`

// Update changes what is not nil. A slug in use is a *tenant.Conflict.
func (s *AppStore) Update(ctx context.Context, by, id uuid.UUID, slug, name, description *string) (tenant.AppRecord, error) {
	c := &change{
		by: by, app: id, action: "app.update", object: id.String(),
		detail: map[string]*string{"slug": slug, "name": name, "description": description},
	}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sqlAppUpdate, id, slug, name, description)
		if duplicate(err) {
			return &tenant.Conflict{Message: fmt.Sprintf("an app has the slug %q already", *slug)}
		}
		if err != nil {
			return fmt.Errorf("update app: %w", err)
		}
		return nil
	})
	if err != nil {
		return tenant.AppRecord{}, err
	}
	return s.Get(ctx, id)
}

const sqlAppLimits = `UPDATE apps SET limits = $2 WHERE id = $1`

// Limit sets what runs of the app's scripts may have.
func (s *AppStore) Limit(ctx context.Context, by, id uuid.UUID, limits tenant.Limits) (tenant.AppRecord, error) {
	c := &change{by: by, app: id, action: "app.limit", object: id.String(), detail: limits}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error { return execOne(ctx, tx, "limit app", sqlAppLimits, id, limits) })
	if err != nil {
		return tenant.AppRecord{}, err
	}
	return s.Get(ctx, id)
}

const sqlAppWeight = `UPDATE apps SET weight = $2 WHERE id = $1`

// Weigh sets the app's share of the slots.
func (s *AppStore) Weigh(ctx context.Context, by, id uuid.UUID, weight int) (tenant.AppRecord, error) {
	c := &change{by: by, app: id, action: "app.weigh", object: id.String(), detail: map[string]int{"weight": weight}}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error { return execOne(ctx, tx, "weigh app", sqlAppWeight, id, weight) })
	if err != nil {
		return tenant.AppRecord{}, err
	}
	return s.Get(ctx, id)
}

const sqlAppDelete = `UPDATE apps SET deleted_at = now() WHERE id = $1`

const sqlAppDeleteDomains = `DELETE FROM app_domains WHERE app = $1`

const sqlAppDeleteSecrets = `DELETE FROM secrets WHERE app = $1`

// Entries that run end by themselves; the others end here, each with its record.
const sqlAppDeleteEntries = `
WITH gone AS (
    DELETE FROM outbox WHERE app = $1 AND state <> 2
    RETURNING id, attempt, app, target, trigger, kind, depth, event_id, root_id, accepted_at
)
INSERT INTO executions (id, attempt, finished_at, app, script, trigger, kind, outcome, reason, depth, event_id, root_id,
    accepted_at, started_at, duration_us, node)
SELECT id, attempt, now(), app, target, trigger, kind, 4, 'app_deleted', depth, event_id, root_id, accepted_at, now(), 0, 0
FROM gone`

// Delete ends an app: its slug and hosts are free at once, and its entries that do not run are cancelled.
func (s *AppStore) Delete(ctx context.Context, by, id uuid.UUID) error {
	c := &change{by: by, app: id, action: "app.delete", object: id.String()}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		for _, sql := range []string{sqlAppDelete, sqlAppDeleteDomains, sqlAppDeleteSecrets, sqlAppDeleteEntries} {
			if _, err := tx.Exec(ctx, sql, id); err != nil {
				return fmt.Errorf("delete app: %w", err)
			}
		}
		return nil
	})
	return err
}

const sqlAppDomains = `
SELECT d.host, d.created_at FROM app_domains d JOIN apps a ON a.id = d.app AND a.deleted_at IS NULL
WHERE d.app = $1 AND d.host > $2 ORDER BY d.host LIMIT $3`

// Domains returns up to limit hosts of an app in order from cursor on, and the cursor of the next page.
func (s *AppStore) Domains(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.Domain, string, error) {
	var after string
	if err := decodeCursor(cursor, &after); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlAppDomains, app, after, limit+1)
	domains, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d tenant.Domain, err error) {
		err = row.Scan(&d.Host, &d.CreatedAt)
		return d, err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list domains: %w", err)
	}
	domains, next := page(domains, limit, func(d *tenant.Domain) []any { return []any{d.Host} })
	return domains, next, nil
}

const sqlAppClaim = `
INSERT INTO app_domains (host, app) VALUES ($1, $2) ON CONFLICT (host) DO NOTHING RETURNING created_at`

// Claim gives host, as tenant.ParseHost returns it, to an app. A host that anybody has claimed is a *tenant.Conflict.
func (s *AppStore) Claim(ctx context.Context, by, app uuid.UUID, host string) (tenant.Domain, error) {
	d := tenant.Domain{Host: host}
	c := &change{by: by, app: app, action: "domain.claim", object: host}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sqlAppClaim, host, app)
		created, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
		if err != nil {
			return fmt.Errorf("claim host: %w", err)
		}
		if len(created) == 0 {
			return &tenant.Conflict{Message: fmt.Sprintf("the host %q is claimed already", host)}
		}
		d.CreatedAt = created[0]
		return nil
	})
	return d, err
}

const sqlAppRelease = `DELETE FROM app_domains WHERE host = $1 AND app = $2`

// Release takes a host from the app that has it.
func (s *AppStore) Release(ctx context.Context, by, app uuid.UUID, host string) error {
	c := &change{by: by, app: app, action: "domain.release", object: host}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		return execOne(ctx, tx, "release host", sqlAppRelease, host, app)
	})
	return err
}

const sqlAppHosts = `SELECT host FROM app_domains WHERE app = $1`

// covered returns nil if requests for host can reach the app at all: it, or a wider host, is claimed.
func covered(ctx context.Context, tx pgx.Tx, app uuid.UUID, host string) error {
	rows, _ := tx.Query(ctx, sqlAppHosts, app)
	claims, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read hosts: %w", err)
	}
	for _, claim := range claims {
		suffix, wildcard := strings.CutPrefix(claim, "*")
		if claim == host || wildcard && strings.HasSuffix(host, suffix) {
			return nil
		}
	}
	return &tenant.Invalid{Field: "host", Message: fmt.Sprintf("the app does not claim %q; claim it as a domain first", host)}
}
