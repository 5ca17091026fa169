package metrics

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/dispatcher"
	"github.com/picloud/picloud/core/engine"
	"github.com/picloud/picloud/core/history"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/record"
	"github.com/picloud/picloud/core/schedule"
)

func TestMain(m *testing.M) { coretest.Main(m) }

func scrape(s Sources) string {
	s.Log = hclog.NewNullLogger()
	s.Node = func() dispatcher.Stats {
		return dispatcher.Stats{
			Accepted: 7, Slots: 32, Async: schedule.Load{Running: 3, Waiting: 5}, Fenced: true,
			Outcomes: map[outbox.Outcome]int64{outbox.DeadLettered: 2},
		}
	}
	s.Engines = func() engine.Stats {
		return engine.Stats{
			Processes: map[string]int{"yaegi": 3}, Spares: map[string]int{"yaegi": 1}, Starts: map[string]int64{"yaegi": 9},
			Recycles: map[string]int64{"age": 2}, IdleStops: 5, Crashes: 4, Quarantined: 1,
		}
	}
	w := httptest.NewRecorder()
	Handler(s).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	pool := coretest.DB(t)
	app, gone := uuid.New(), uuid.New()
	if _, err := pool.Exec(t.Context(), `INSERT INTO outbox (id, event_id, app, lane, target, root_id, run_at, accepted_at, timeout_ms,
		kind, state, max_attempts, envelope) VALUES ($1, $1, $1, $1, $1, $1, now() - interval '1 hour', now(), 1, 1, 1, 1, '')`, app); err != nil {
		t.Fatal(err)
	}
	store := postgres.NewHistoryStore(pool)
	if _, err := store.Add(t.Context(), history.Tally{
		Usage: []history.Usage{{App: app, Day: time.Now(), Bytes: 1234}, {App: gone, Day: time.Now()}},
	}); err != nil {
		t.Fatal(err)
	}
	text := scrape(Sources{
		Health: postgres.NewTableStore(pool).Health, Usage: store.Usage,
		Slug: func(id uuid.UUID) string { return map[uuid.UUID]string{app: "shop"}[id] },
	})
	for _, line := range []string{
		"picloud_entries_accepted_total 7\n", "picloud_slots 32\n", `picloud_runs{class="async"} 3`, `picloud_waiting{class="async"} 5`,
		`picloud_attempts_total{outcome="dead_lettered"} 2`, "picloud_fenced 1\n", "picloud_oldest_ready_seconds 360",
		`picloud_engine_processes{engine="yaegi"} 3`, `picloud_engine_spares{engine="yaegi"} 1`, `picloud_engine_starts_total{engine="yaegi"} 9`,
		`picloud_engine_recycles_total{reason="age"} 2`, "picloud_engine_idle_stops_total 5", "picloud_engine_crashes_total 4\n",
		"picloud_scripts_quarantined 1\n", `picloud_history_bytes{app="shop"} 1234`, "picloud_outbox_dead_rows ", "go_goroutines ",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("there is no %q", line)
		}
	}
	if strings.Count(text, "picloud_history_bytes{") != 1 {
		t.Error("an app that is gone is told of")
	}
}

// Without the database the rest is told all the same.
func TestMetricsWithoutDatabase(t *testing.T) {
	t.Parallel()
	text := scrape(Sources{Health: func(context.Context) (record.Health, error) { return record.Health{}, errors.New("away") }})
	if !strings.Contains(text, "picloud_slots 32") || strings.Contains(text, "picloud_outbox") {
		t.Errorf("it tells %s", text)
	}
}
