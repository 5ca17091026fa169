package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/tenant"
)

// SnapshotStore reads the configuration of all apps at one point in time.
type SnapshotStore struct {
	pool *pgxpool.Pool
	most tenant.Limits
}

// NewSnapshotStore makes a store over pool. most is what no run may exceed on this node.
func NewSnapshotStore(pool *pgxpool.Pool, most tenant.Limits) *SnapshotStore {
	return &SnapshotStore{pool, most}
}

const sqlSnapshotVersion = `SELECT version FROM config`

const sqlSnapshotApps = `
SELECT a.id, a.slug, a.name, a.release, a.weight, a.limits,
    ARRAY(SELECT d.host FROM app_domains d WHERE d.app = a.id ORDER BY d.host)
FROM apps a WHERE a.deleted_at IS NULL`

const sqlSnapshotScripts = `SELECT ` + scriptColumns + scriptTables

const sqlSnapshotRoutes = `SELECT ` + routeColumns + routeTables

const sqlSnapshotSinks = `SELECT ` + sinkColumns + sinkTables

const sqlSnapshotQueues = `SELECT ` + queueColumns + queueTables

const sqlSnapshotTriggers = `SELECT ` + triggerColumns + triggerTables

const sqlSnapshotSources = `SELECT ` + sourceColumns + sourceTables

const sqlSnapshotPauses = `SELECT p.app, p.lane FROM pauses p JOIN apps a ON a.id = p.app AND a.deleted_at IS NULL`

// Load reads everything in one transaction, so that what it returns is the state of exactly one version.
func (s *SnapshotStore) Load(ctx context.Context) (*tenant.Snapshot, error) {
	var version int64
	var apps []*tenant.App
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, sqlSnapshotVersion).Scan(&version); err != nil {
			return fmt.Errorf("read config version: %w", err)
		}
		byID := make(map[uuid.UUID]*tenant.App)
		rows, _ := tx.Query(ctx, sqlSnapshotApps)
		var err error
		apps, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*tenant.App, error) {
			a := &tenant.App{}
			err := row.Scan(&a.ID, &a.Slug, &a.Name, &a.Release, &a.Weight, &a.Limits, &a.Domains)
			byID[a.ID] = a
			return a, err
		})
		if err != nil {
			return fmt.Errorf("read apps: %w", err)
		}
		rows, _ = tx.Query(ctx, sqlSnapshotScripts)
		scripts, err := pgx.CollectRows(rows, scanScript)
		if err != nil {
			return fmt.Errorf("read scripts: %w", err)
		}
		for i := range scripts {
			app := byID[scripts[i].App]
			app.Scripts = append(app.Scripts, scripts[i].Script)
		}
		for _, app := range apps {
			_ = tenant.Link(app.Scripts) // one that lacks a module says so when it is loaded; none could have been released
			app.Bound(s.most)
		}
		rows, _ = tx.Query(ctx, sqlSnapshotRoutes)
		routes, err := pgx.CollectRows(rows, scanRoute)
		if err != nil {
			return fmt.Errorf("read routes: %w", err)
		}
		for i := range routes {
			app := byID[routes[i].App]
			app.Routes = append(app.Routes, routes[i].Route)
		}
		return loadLanes(ctx, tx, byID)
	})
	if err != nil {
		return nil, fmt.Errorf("load snapshot: %w", err)
	}
	return tenant.NewSnapshot(version, apps), nil
}

// loadLanes reads what else may own entries, and what is paused.
func loadLanes(ctx context.Context, tx pgx.Tx, apps map[uuid.UUID]*tenant.App) error {
	rows, _ := tx.Query(ctx, sqlSnapshotSinks)
	sinks, err := pgx.CollectRows(rows, scanSink)
	if err != nil {
		return fmt.Errorf("read sinks: %w", err)
	}
	for i := range sinks {
		app := apps[sinks[i].App]
		app.Sinks = append(app.Sinks, sinks[i].Sink)
	}
	rows, _ = tx.Query(ctx, sqlSnapshotSources)
	sources, err := pgx.CollectRows(rows, scanSource)
	if err != nil {
		return fmt.Errorf("read sources: %w", err)
	}
	for i := range sources {
		app := apps[sources[i].App]
		app.Sources = append(app.Sources, sources[i].Source)
	}
	rows, _ = tx.Query(ctx, sqlSnapshotQueues)
	queues, err := pgx.CollectRows(rows, scanQueue)
	if err != nil {
		return fmt.Errorf("read queues: %w", err)
	}
	for i := range queues {
		app := apps[queues[i].App]
		app.Queues = append(app.Queues, queues[i].Queue)
	}
	rows, _ = tx.Query(ctx, sqlSnapshotTriggers)
	triggers, err := pgx.CollectRows(rows, scanTrigger)
	if err != nil {
		return fmt.Errorf("read triggers: %w", err)
	}
	for i := range triggers {
		app := apps[triggers[i].App]
		app.Triggers = append(app.Triggers, triggers[i].Trigger)
	}
	rows, _ = tx.Query(ctx, sqlSnapshotPauses)
	var app, lane uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&app, &lane}, func() error {
		apps[app].Paused = append(apps[app].Paused, lane)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read pauses: %w", err)
	}
	return nil
}
