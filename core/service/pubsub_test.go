package service_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// subscribed is setup with triggers of the app, all to its script "other", and one of another app that takes everything.
func subscribed(t *testing.T, triggers ...tenant.Trigger) *bundle {
	t.Helper()
	b := setup(t)
	for _, x := range triggers {
		x.ID, x.App, x.Kind, x.Script, x.Enabled = uuid.New(), b.app.ID, tenant.TriggerPubSub, b.app.Scripts[1].ID, true
		b.app.Triggers = append(b.app.Triggers, x)
	}
	b.foreign.Triggers = []tenant.Trigger{{
		ID: uuid.New(), App: b.foreign.ID, Name: "spy", Kind: tenant.TriggerPubSub, Script: b.foreign.Scripts[0].ID, Enabled: true,
		Filter: tenant.TriggerFilter{Topic: "*"},
	}}
	b.reload()
	return b
}

func topic(name, pattern string) tenant.Trigger {
	return tenant.Trigger{Name: name, Filter: tenant.TriggerFilter{Topic: pattern}}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	adults := topic("adults", "user.*")
	adults.Filter.When = "data.age > 17.0"
	adults.Policy.MaxAttempts = 9
	b := subscribed(t, topic("exact", "user.created"), topic("all", "*"), adults, topic("other", "order.*"))
	for _, c := range []struct {
		args string
		want int
	}{
		{`{"topic":"user.created","message":{"age":18}}`, 3},
		{`{"topic":"user.created","message":{"age":17}}`, 2},
		{`{"topic":"user.created","message":null}`, 2},
		{`{"topic":"weather","message":"rain"}`, 1},
	} {
		b.entries = nil
		answer, err := b.ask(t, "pubsub.publish", c.args)
		if err != nil || answer["deliveries"] != float64(c.want) || len(b.entries) != c.want {
			t.Errorf("%s: %v, %v, %d entries", c.args, answer, err, len(b.entries))
		}
	}
	b.entries = nil
	if _, err := b.ask(t, "pubsub.publish", `{"topic":"user.created","message":{"age": 18},"delay_ms":1500,"priority":3,"ordering_key":"k","idempotency_key":"once"}`); err != nil {
		t.Fatal(err)
	}
	cause := b.run.Entry
	for i, e := range b.entries {
		env, err := event.Unmarshal(e.Envelope)
		if err != nil || env.Type != "pubsub.message" || env.Subject != "user.created" || env.ContentType != "application/json" || env.TraceParent != "00-trace" {
			t.Errorf("%+v, %v", env, err)
		}
		if e.App != cause.App || e.RootID != cause.RootID || e.Depth != 3 || e.Kind != outbox.KindPubSub || e.Lane != e.Trigger ||
			e.Delay != 1500*time.Millisecond || e.Priority != 3 || e.Gate != outbox.OrderGate("k") || string(e.Payload) != `{"age": 18}` ||
			e.State != outbox.Scheduled || (e.Idempotency != nil) != (i == 0) {
			t.Errorf("%+v", e)
		}
	}
	if k := b.entries[0].Idempotency; k.Scope != b.app.ID || k.Key != "user.created once" {
		t.Errorf("%+v", k)
	}
	if b.entries[2].MaxAttempts != 9 || b.entries[0].MaxAttempts != 5 {
		t.Error("the policies of the triggers do not hold")
	}
}

// A key belongs to its topic, whatever that is called.
func TestPublishKeys(t *testing.T) {
	t.Parallel()
	b := subscribed(t, topic("all", "*"))
	for _, args := range []string{`{"topic":"a","message":1,"idempotency_key":"b/c d"}`, `{"topic":"a/b","message":1,"idempotency_key":"c d"}`} {
		if _, err := b.ask(t, "pubsub.publish", args); err != nil {
			t.Fatal(err)
		}
	}
	if one, other := b.entries[0].Idempotency.Key, b.entries[1].Idempotency.Key; one == other {
		t.Errorf("two topics have one key: %s", one)
	}
}

// A message that nobody takes is published all the same.
func TestPublishToNobody(t *testing.T) {
	t.Parallel()
	b := subscribed(t, topic("other", "order.*"))
	b.run.Entry.Depth = outbox.MaxDepth
	answer, err := b.ask(t, "pubsub.publish", `{"topic":"weather","message":1,"idempotency_key":"k"}`)
	if err != nil || answer["deliveries"] != 0.0 || b.tries != 0 {
		t.Errorf("%v, %v, %d tries", answer, err, b.tries)
	}
}

func TestPublishRefusals(t *testing.T) {
	t.Parallel()
	keyed := topic("keyed", "*")
	keyed.Policy.OrderingKey = "x{body.k}"
	long := strings.Repeat("x", 1<<20-2)
	for _, c := range []struct {
		args  string
		kind  fault.Kind
		words string
	}{
		{`{"topic":"","message":1}`, fault.Invalid, "topic: is empty"},
		{`{"topic":"user.*","message":1}`, fault.Invalid, "topic"},
		{`{"topic":"a"}`, fault.Invalid, "message: is missing"},
		{`{"topic":"a","message":"x` + long + `"}`, fault.Invalid, "1048577 bytes"},
		{`{"topic":"a","message":"` + "\xff" + `"}`, fault.Invalid, "UTF-8"},
		{`{"topic":"a","message":1,"delay_ms":-1}`, fault.Invalid, "delay"},
		{`{"topic":"a","message":1,"data":1}`, fault.Invalid, "data"},
		{`{"topic":"a","message":{"k":"` + strings.Repeat("k", tenant.MaxKey) + `"}}`, fault.Invalid, `trigger "keyed"`},
	} {
		subscribed(t, keyed).refused(t, "pubsub.publish", c.args, c.kind, c.words)
	}
	b := subscribed(t, topic("all", "*"))
	b.run.Entry.Depth = outbox.MaxDepth
	b.refused(t, "pubsub.publish", `{"topic":"a","message":1}`, fault.LoopDepth, "circle")

	var many []tenant.Trigger
	for i := range 33 {
		many = append(many, topic(fmt.Sprint("t", i), "*"))
	}
	subscribed(t, many...).refused(t, "pubsub.publish", `{"topic":"a","message":"`+long+`"}`, fault.Invalid, "33 triggers")
	if answer, err := subscribed(t, many[:32]...).ask(t, "pubsub.publish", `{"topic":"a","message":"`+long+`"}`); err != nil || answer["deliveries"] != 32.0 {
		t.Errorf("%v, %v", answer, err)
	}
}

// One transaction: what the outbox refuses of one trigger is refused for all, and what was accepted before is a success.
func TestPublishIsOne(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err   error
		kind  fault.Kind
		words string
	}{
		{errors.Join(outbox.ErrBudget, outbox.ErrBudget), fault.LoopBudget, "10000 events"},
		{outbox.ErrKeyReused, fault.Invalid, "idempotency_key"},
		{&outbox.Overloaded{Message: "too much waits"}, fault.Overloaded, "too much waits"},
		{outbox.ErrUnknown, fault.Unavailable, "not known"},
		{errors.New("password=x"), fault.Unavailable, "try again"},
	} {
		b := subscribed(t, topic("a", "*"), topic("b", "*"))
		b.append = func(int, *outbox.Entry) error { return c.err }
		b.refused(t, "pubsub.publish", `{"topic":"a","message":1}`, c.kind, c.words)
	}
	b := subscribed(t, topic("a", "*"), topic("b", "*"))
	b.append = func(n int, e *outbox.Entry) error {
		if e.Owner != 0 {
			t.Errorf("try %d: %+v", n, e)
		}
		if n == 1 {
			e.Owner = 7
			return outbox.ErrFenced
		}
		return fmt.Errorf("append: %w", &outbox.Duplicate{Entry: uuid.New()})
	}
	answer, err := b.ask(t, "pubsub.publish", `{"topic":"a","message":1,"idempotency_key":"k"}`)
	if err != nil || answer["deliveries"] != 2.0 || b.tries != 2 || len(b.entries) != 0 {
		t.Errorf("%v, %v, %d tries, %d entries", answer, err, b.tries, len(b.entries))
	}
	over := errors.New("over")
	ctx, cancel := context.WithCancelCause(t.Context())
	b = subscribed(t, topic("a", "*"))
	b.append = func(int, *outbox.Entry) error { cancel(over); return ctx.Err() }
	if _, err := b.host.Call(ctx, b.run, "pubsub", "publish", []byte(`{"topic":"a","message":1}`)); !errors.Is(err, over) {
		t.Error(err)
	}
}
