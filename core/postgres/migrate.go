package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/picloud/picloud/migrations"
)

// Migrate brings the database to the newest schema. Nodes that start at one time do so one after the other, by a lock of
// the session: url must lead to the server itself, or to a pooler in session mode. It uses a connection of its own, with
// no limit on the time of a statement, and leaves a database that is up to date alone.
func Migrate(ctx context.Context, url string, log hclog.Logger) error {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("database URL: %w", err)
	}
	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }()
	provider, err := newMigrator(db)
	if err != nil {
		return fmt.Errorf("migrate database: %w", err)
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate database: %w", err)
	}
	for _, result := range results {
		log.Info("migrated database", "version", result.Source.Version, "took", result.Duration)
	}
	return nil
}

func newMigrator(db *sql.DB) (*goose.Provider, error) {
	// Whoever finds the lock taken asks again every second, for five minutes. It must not wait inside a statement: its
	// snapshot would block a CREATE INDEX CONCURRENTLY of the one that migrates.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, migrations.FS,
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
}
