package postgres_test

import (
	"database/sql"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/postgres"
)

func TestOpenLimitsSessions(t *testing.T) {
	t.Parallel()
	url := coretest.URL(t)
	for _, c := range []struct{ url, setting, want string }{
		{url, "statement_timeout", "10s"},
		{url, "idle_in_transaction_session_timeout", "10s"},
		{url, "lock_timeout", "2s"},
		{url + "&lock_timeout=7s", "lock_timeout", "7s"},
		{url + "&synchronous_commit=off", "synchronous_commit", "off"},
	} {
		pool, err := postgres.Open(t.Context(), postgres.Config{URL: c.url, MaxConns: 1}, coretest.Logger(t))
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		if got := text(t, pool, "SHOW "+c.setting); got != c.want {
			t.Errorf("%s = %s, want %s", c.setting, got, c.want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://%", "postgres://nobody:wrong@/nothing?host=" + t.TempDir()} {
		if pool, err := postgres.Open(t.Context(), postgres.Config{URL: url}, coretest.Logger(t)); err == nil {
			pool.Close()
			t.Errorf("opened %s", url)
		}
	}
	for version, ok := range map[string]bool{
		"15.0": true, "15.18 (Debian 15.18-0+deb12u1)": true, "18beta1": true,
		"14.9": false, "9.6.24": false, "": false, "devel": false,
	} {
		if err := postgres.CheckVersion(version); (err == nil) != ok {
			t.Errorf("version %q: %v", version, err)
		}
	}
}

func TestMigrateUpDownUp(t *testing.T) {
	t.Parallel()
	url := coretest.EmptyURL(t)
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url}, coretest.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	empty := schema(t, pool)
	migrate(t, url)
	migrated := schema(t, pool)
	if !strings.Contains(migrated, "outbox.id uuid") {
		t.Fatalf("no outbox in:\n%s", migrated)
	}

	db := stdlib.OpenDBFromPool(pool)
	defer closeDB(t, db)
	migrator, err := postgres.NewMigrator(db)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrator.DownTo(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if left := schema(t, pool); left != empty {
		t.Errorf("left after down:\n%s", left)
	}
	migrate(t, url)
	if again := schema(t, pool); again != migrated {
		t.Errorf("schema after up, down, up:\n%s\nwant:\n%s", again, migrated)
	}
}

func TestStartersMigrateOneAfterTheOther(t *testing.T) {
	t.Parallel()
	url := coretest.EmptyURL(t)
	var starters sync.WaitGroup
	for range 3 {
		starters.Go(func() { migrate(t, url) })
	}
	starters.Wait()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url}, coretest.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	applied := text(t, pool, `
		SELECT CASE WHEN count(*) = count(DISTINCT version_id) THEN 'once' ELSE 'again' END FROM goose_db_version`)
	if applied != "once" {
		t.Errorf("migrations were applied %s", applied)
	}
}

// migrate reports errors without ending the test, so that any goroutine may call it.
func migrate(t *testing.T, url string) {
	t.Helper()
	if err := postgres.Migrate(t.Context(), url, coretest.Logger(t)); err != nil {
		t.Error(err)
	}
}

func closeDB(t *testing.T, db *sql.DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func text(t *testing.T, pool *pgxpool.Pool, statement string) string {
	t.Helper()
	var result string
	if err := pool.QueryRow(t.Context(), statement).Scan(&result); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return result
}

// schema describes all columns, indexes, constraints and sequences, but not the migrator's own table.
func schema(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	return text(t, pool, `
		SELECT coalesce(string_agg(line, E'\n' ORDER BY line), '') FROM (
			SELECT format('%s.%s %s %s %s', table_name, column_name, data_type, is_nullable, column_default) AS line
			FROM information_schema.columns WHERE table_schema = 'public'
			UNION ALL
			SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
			UNION ALL
			SELECT format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
			WHERE connamespace = 'public'::regnamespace
			UNION ALL
			SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'
		) lines WHERE line NOT LIKE '%goose_db_version%'`)
}
