package postgres_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/postgres"
)

// Whatever table has rows of apps that scripts write is emptied of those of a deleted app, and only of those.
func TestPurgeDeletedApp(t *testing.T) {
	t.Parallel()
	pool := coretest.DB(t)
	store := postgres.NewAppStore(pool)
	apps := map[string]uuid.UUID{"gone": uuid.New(), "here": uuid.New()}
	fill := []string{
		`INSERT INTO kv_entries (app, collection, key, value) SELECT $1, 'c', n::text, '1' FROM generate_series(1, 25) n`,
		`INSERT INTO docs (app, collection, id, data) SELECT $1, 'c', gen_random_uuid(), '{}' FROM generate_series(1, 7) n`,
		`INSERT INTO doc_indexes (app, collection, path, type) VALUES ($1, 'c', 'a', 'text')`,
		`INSERT INTO doc_index_entries (app, index, doc, rank, num, text) SELECT $1, 1, gen_random_uuid(), 0, 0, '' FROM generate_series(1, 20) n`,
		`INSERT INTO files (app, collection, id, name, content_type, size, sha256, blocks, blob) VALUES ($1, 'c', gen_random_uuid(), 'n', 't', 1, '', '', gen_random_uuid())`,
		`INSERT INTO file_usage (app, bytes) VALUES ($1, 1)`,
	}
	tables := []string{"kv_entries", "docs", "doc_indexes", "doc_index_entries", "files", "file_usage"}
	for slug, id := range apps {
		if _, err := pool.Exec(t.Context(), `INSERT INTO apps (id, slug, name) VALUES ($1, $2, '')`, id, slug); err != nil {
			t.Fatal(err)
		}
		for _, sql := range fill {
			if _, err := pool.Exec(t.Context(), sql, id); err != nil {
				t.Fatal(err)
			}
		}
	}
	rows := func(table, slug string) (n int) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM `+table+` WHERE app = $1`, apps[slug]).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := store.Delete(t.Context(), uuid.Nil, apps["gone"]); err != nil {
		t.Fatal(err)
	}
	steps := 0
	purge := func(before time.Time) {
		t.Helper()
		for more := true; more && steps < 20; steps++ {
			var err error
			if more, err = store.Purge(t.Context(), before, 10); err != nil {
				t.Fatal(err)
			}
		}
	}
	purge(time.Now().Add(-time.Hour))
	if rows("kv_entries", "gone") != 25 {
		t.Error("what was deleted just now is removed already")
	}
	purge(time.Now().Add(time.Minute))
	for _, table := range tables {
		if rows(table, "gone") != 0 || rows(table, "here") == 0 {
			t.Errorf("%s: %d rows of the deleted app, %d of the other", table, rows(table, "gone"), rows(table, "here"))
		}
	}
	if steps > 8 {
		t.Errorf("%d steps", steps)
	}

	// A new table with rows of apps has to be in this test, or be one that has an end of its own.
	others := strings.Fields(`api_keys app_domains audit_log cron_state dead_letters execution_bodies execution_bodies_default executions
		executions_default history_usage idempotency_keys outbox pauses queues releases replays results roots routes script_imports
		script_usage script_versions scripts secrets sinks sources triggers gates`)
	var all []string
	if err := pool.QueryRow(t.Context(), `SELECT array_agg(DISTINCT table_name ORDER BY table_name) FROM information_schema.columns
		WHERE column_name = 'app' AND table_schema = current_schema()`).Scan(&all); err != nil {
		t.Fatal(err)
	}
	want := append(tables, others...)
	for _, table := range all {
		if !slices.Contains(want, table) && !partition.MatchString(table) {
			t.Errorf("what becomes of the table %s when an app is deleted?", table)
		}
	}
	for _, table := range want {
		if !slices.Contains(all, table) {
			t.Errorf("there is no table %s of apps", table)
		}
	}
}

var partition = regexp.MustCompile(`_p?[0-9]+(_[0-9]+)*$`)
