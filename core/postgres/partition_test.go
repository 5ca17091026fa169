package postgres_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/postgres"
)

// Records of today and of the next days each have a partition of their own, made once however often it is asked for; a
// day that began without one goes on without.
func TestExtend(t *testing.T) {
	t.Parallel()
	for _, begun := range []bool{false, true} {
		pool := coretest.DB(t)
		insert := func(day int) string {
			t.Helper()
			var partition string
			err := pool.QueryRow(t.Context(), `
				INSERT INTO executions (id, attempt, finished_at, app, script, kind, outcome, event_id, root_id, accepted_at,
					started_at, duration_us, node)
				VALUES ($1, 1, now() + $2 * interval '1 day', $1, $1, 1, 1, $1, $1, now(), now(), 1, 1)
				RETURNING tableoid::regclass::text`, uuid.New(), day).Scan(&partition)
			if err != nil {
				t.Fatal(err)
			}
			return partition
		}
		today := "executions_" + time.Now().UTC().Format("20060102")
		if begun {
			insert(0)
			today = "executions_default"
		}
		store := postgres.NewExecutionStore(pool)
		for range 2 {
			if err := store.Extend(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := insert(0); got != today {
			t.Errorf("begun %t: a record of today is in %s", begun, got)
		}
		if got, want := insert(2), "executions_"+time.Now().UTC().AddDate(0, 0, 2).Format("20060102"); got != want {
			t.Errorf("begun %t: a record of the day after tomorrow is in %s", begun, got)
		}
	}
}
