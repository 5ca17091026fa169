package service_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/sdk/fault"
)

// What is published for the moment goes to the same triggers as other messages, as far as there is room, and nothing holds it back.
func TestPublishEphemeral(t *testing.T) {
	t.Parallel()
	slow := topic("slow", "user.*")
	slow.Policy.Delay, slow.Policy.OrderingKey = retry.Duration(time.Hour), "{body.id}"
	adults := topic("adults", "user.*")
	adults.Filter.When = "data.age > 17.0"
	b := subscribed(t, topic("exact", "user.created"), slow, adults, topic("other", "order.*"))
	b.room = 2
	answer, err := b.ask(t, "pubsub.publish_ephemeral", `{"topic":"user.created","message":{"age":18}}`)
	if err != nil || answer["deliveries"] != 2.0 || answer["dropped"] != 1.0 {
		t.Fatalf("%v, %v", answer, err)
	}
	for _, e := range b.entries {
		if e.Depth != 3 || e.RootID != b.run.Entry.RootID || e.Gate != "" || e.Delay != 0 || e.Kind != outbox.KindPubSub || e.App != b.app.ID {
			t.Errorf("%+v", e)
		}
	}
	b.entries = nil
	b.refused(t, "pubsub.publish_ephemeral", `{"topic":"user.*","message":1}`, fault.Invalid, "topic")
	b.refused(t, "pubsub.publish_ephemeral", `{"topic":"a"}`, fault.Invalid, "message: is missing")
	b.full = outbox.ErrBudget
	b.refused(t, "pubsub.publish_ephemeral", `{"topic":"user.created","message":1}`, fault.LoopBudget, "10000 events")
	b.run.Entry.Depth = outbox.MaxDepth
	b.refused(t, "pubsub.publish_ephemeral", `{"topic":"user.created","message":1}`, fault.LoopDepth, "8 events")
}

// A script sees how a queue of its app stands, and ends what waits there: no message of another queue or app, and none that runs.
func TestQueueDepthAndPurge(t *testing.T) {
	t.Parallel()
	b := setupKV(t)
	b.queues = postgres.NewQueueStore(b.pool)
	b.reload()
	mail := b.app.Queues[0]
	add := func(app, lane uuid.UUID, state outbox.State, n int) {
		t.Helper()
		_, err := b.pool.Exec(t.Context(), `INSERT INTO outbox (id, event_id, app, lane, target, root_id, owner, run_at, accepted_at, timeout_ms, kind, state,
    attempt, max_attempts, envelope, payload)
SELECT gen_random_uuid(), gen_random_uuid(), $1, $2, $3, gen_random_uuid(), CASE WHEN $4 = 2 THEN 7 END, now(), now() - interval '1 hour', 1000, 4, $4,
    0, 5, '', '' FROM generate_series(1, $5)`, app, lane, b.app.Scripts[1].ID, state, n)
		if err != nil {
			t.Fatal(err)
		}
	}
	depth := func(want map[string]float64) {
		t.Helper()
		answer, err := b.ask(t, "queue.depth", `{"queue":"mail"}`)
		age, _ := answer["oldest_age_ms"].(float64)
		if err != nil || answer["waiting"] != want["waiting"] || answer["running"] != want["running"] || (want["waiting"] > 0) != (age >= 3_600_000) {
			t.Errorf("%v, %v", answer, err)
		}
	}
	depth(map[string]float64{})
	add(mail.App, mail.ID, outbox.Ready, 700)
	add(mail.App, mail.ID, outbox.Scheduled, 2)
	add(mail.App, mail.ID, outbox.Running, 3)
	add(mail.App, b.app.Queues[1].ID, outbox.Ready, 1)
	add(b.foreign.ID, b.foreign.Queues[0].ID, outbox.Ready, 1)
	depth(map[string]float64{"waiting": 702, "running": 3})
	answer, err := b.ask(t, "queue.purge", `{"queue":"mail"}`)
	if err != nil || answer["purged"] != 702.0 || answer["more"] != false {
		t.Errorf("%v, %v", answer, err)
	}
	depth(map[string]float64{"running": 3})
	var left, told int
	if err := b.pool.QueryRow(t.Context(), `SELECT count(*), (SELECT count(*) FROM executions WHERE reason = 'purged' AND outcome = 4) FROM outbox`).
		Scan(&left, &told); err != nil || left != 5 || told != 702 {
		t.Errorf("%d left, %d told, %v", left, told, err)
	}
	b.refused(t, "queue.purge", `{"queue":"vault"}`, fault.NotFound, `no queue "vault"`)
	b.refused(t, "queue.depth", `{"queue":"mail","app":"x"}`, fault.Invalid, `"app"`)
	if _, err := b.pool.Exec(t.Context(), `DELETE FROM nodes`); err != nil {
		t.Fatal(err)
	}
	b.refused(t, "queue.purge", `{"queue":"mail"}`, fault.Unavailable, "cannot be reached")
}
