package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/tenant"
)

// RouteStore keeps the routes of apps.
type RouteStore struct{ pool *pgxpool.Pool }

// NewRouteStore makes a store over pool.
func NewRouteStore(pool *pgxpool.Pool) *RouteStore { return &RouteStore{pool} }

const (
	routeColumns = `r.id, r.app, r.script, r.method, r.host, r.pattern, r.mode, coalesce(r.wait_ms, 0), s.name,
    r.created_at`
	routeTables = ` FROM routes r JOIN scripts s ON s.id = r.script JOIN apps a ON a.id = r.app AND a.deleted_at IS NULL `
)

func scanRoute(row pgx.CollectableRow) (r tenant.RouteRecord, err error) {
	var wait int64
	err = row.Scan(&r.ID, &r.App, &r.Script, &r.Method, &r.Host, &r.Pattern, &r.Mode, &wait, &r.ScriptName, &r.CreatedAt)
	r.Wait = time.Duration(wait) * time.Millisecond
	return r, err
}

const sqlRouteCreate = `
INSERT INTO routes (id, app, script, method, host, pattern, shape, mode, wait_ms)
SELECT $1, s.app, s.id, $4, $5, $6, $7, $8, nullif($9::int, 0) FROM scripts s WHERE s.app = $2 AND s.id = $3 AND s.kind = 'endpoint'
ON CONFLICT (app, host, method, shape) DO NOTHING`

const sqlRouteSame = `
SELECT ` + routeColumns + routeTables + `WHERE r.app = $1 AND r.host = $2 AND r.method = $3 AND r.shape = $4`

// Create stores a route, whose pattern, method and host are parsed already. Another route of the same host, method and
// shape is a *tenant.Conflict; a host that the app does not claim, or a script that cannot be called, is *tenant.Invalid.
func (s *RouteStore) Create(ctx context.Context, by uuid.UUID, r tenant.Route) (tenant.RouteRecord, error) {
	var made tenant.RouteRecord
	c := &change{by: by, app: r.App, action: "route.create", object: r.Method + " " + r.Host + r.Pattern, released: true}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) (err error) {
		made, err = insertRoute(ctx, tx, r)
		return err
	})
	return made, err
}

func insertRoute(ctx context.Context, tx pgx.Tx, r tenant.Route) (tenant.RouteRecord, error) {
	pattern, err := tenant.ParsePattern(r.Pattern)
	if err != nil {
		return tenant.RouteRecord{}, &tenant.Invalid{Field: "pattern", Message: err.Error()}
	}
	if r.Host != "" {
		if err := covered(ctx, tx, r.App, r.Host); err != nil {
			return tenant.RouteRecord{}, err
		}
	}
	if r.ID, err = uuid.NewV7(); err != nil {
		return tenant.RouteRecord{}, fmt.Errorf("make route id: %w", err)
	}
	tag, err := tx.Exec(ctx, sqlRouteCreate, r.ID, r.App, r.Script, r.Method, r.Host, r.Pattern, pattern.Shape(), r.Mode,
		r.Wait.Milliseconds())
	if err != nil {
		return tenant.RouteRecord{}, fmt.Errorf("insert route: %w", err)
	}
	rows, _ := tx.Query(ctx, sqlRouteSame, r.App, r.Host, r.Method, pattern.Shape())
	there, err := pgx.CollectExactlyOneRow(rows, scanRoute)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return there, &tenant.Invalid{Field: "script", Message: "the app has no endpoint of that name or id; a module cannot be called"}
	case err != nil:
		return there, fmt.Errorf("read route: %w", err)
	case tag.RowsAffected() == 0:
		return there, sameShape(&there)
	}
	return there, nil
}

func sameShape(there *tenant.RouteRecord) *tenant.Conflict {
	return &tenant.Conflict{
		Message: fmt.Sprintf("%s %s%s answers the same requests and leads to %s",
			there.Method, there.Host, there.Pattern, there.ScriptName),
		With: there.ID,
	}
}

const sqlRouteRenew = `
UPDATE routes r SET pattern = $6, mode = $7, wait_ms = nullif($8::int, 0) FROM scripts s
WHERE r.app = $1 AND r.host = $2 AND r.method = $3 AND r.shape = $4 AND r.script = $5 AND s.id = r.script
RETURNING ` + routeColumns

// putRoute makes the route r, or gives the one of the same host, method, shape and script its pattern and mode.
func putRoute(ctx context.Context, tx pgx.Tx, r tenant.Route) (tenant.RouteRecord, error) {
	pattern, err := tenant.ParsePattern(r.Pattern)
	if err != nil {
		return tenant.RouteRecord{}, &tenant.Invalid{Field: "pattern", Message: err.Error()}
	}
	rows, _ := tx.Query(ctx, sqlRouteRenew, r.App, r.Host, r.Method, pattern.Shape(), r.Script, r.Pattern, r.Mode,
		r.Wait.Milliseconds())
	made, err := pgx.CollectExactlyOneRow(rows, scanRoute)
	if errors.Is(err, pgx.ErrNoRows) {
		return insertRoute(ctx, tx, r)
	}
	if err != nil {
		return made, fmt.Errorf("renew route: %w", err)
	}
	return made, nil
}

// Conflicts tells what Create would: nil if the app has room for a route of that host, method and pattern.
func (s *RouteStore) Conflicts(ctx context.Context, r tenant.Route) error {
	pattern, err := tenant.ParsePattern(r.Pattern)
	if err != nil {
		return &tenant.Invalid{Field: "pattern", Message: err.Error()}
	}
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if r.Host != "" {
			if err := covered(ctx, tx, r.App, r.Host); err != nil {
				return err
			}
		}
		rows, _ := tx.Query(ctx, sqlRouteSame, r.App, r.Host, r.Method, pattern.Shape())
		there, err := pgx.CollectExactlyOneRow(rows, scanRoute)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err != nil:
			return fmt.Errorf("read route: %w", err)
		}
		return sameShape(&there)
	})
}

const sqlRouteGet = `SELECT ` + routeColumns + routeTables + `WHERE r.app = $1 AND r.id = $2`

// Get returns a route or tenant.ErrNotFound.
func (s *RouteStore) Get(ctx context.Context, app, id uuid.UUID) (tenant.RouteRecord, error) {
	rows, _ := s.pool.Query(ctx, sqlRouteGet, app, id)
	r, err := pgx.CollectExactlyOneRow(rows, scanRoute)
	return r, missing("read route", err)
}

const sqlRouteList = `
SELECT ` + routeColumns + routeTables + `
WHERE r.app = $1 AND (r.pattern, r.host, r.method) > ($2, $3, $4)
ORDER BY r.pattern, r.host, r.method LIMIT $5`

// List returns up to limit routes by pattern from cursor on, and the cursor of the next page.
func (s *RouteStore) List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.RouteRecord, string, error) {
	var pattern, host, method string
	if err := decodeCursor(cursor, &pattern, &host, &method); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlRouteList, app, pattern, host, method, limit+1)
	routes, err := pgx.CollectRows(rows, scanRoute)
	if err != nil {
		return nil, "", fmt.Errorf("list routes: %w", err)
	}
	routes, next := page(routes, limit, func(r *tenant.RouteRecord) []any { return []any{r.Pattern, r.Host, r.Method} })
	return routes, next, nil
}

const sqlRouteDelete = `DELETE FROM routes WHERE app = $1 AND id = $2`

// Delete removes a route.
func (s *RouteStore) Delete(ctx context.Context, by, app, id uuid.UUID) error {
	c := &change{by: by, app: app, action: "route.delete", object: id.String(), released: true}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		return execOne(ctx, tx, "delete route", sqlRouteDelete, app, id)
	})
	return err
}
