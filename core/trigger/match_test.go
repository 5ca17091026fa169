package trigger

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
)

// configured is a snapshot with one app that has these triggers, all to one script.
func configured(triggers ...tenant.Trigger) (*tenant.Snapshot, *tenant.App) {
	app := &tenant.App{ID: uuid.New(), Slug: "ours"}
	app.Scripts = []tenant.Script{{ID: uuid.New(), App: app.ID, Name: "s", Kind: tenant.KindEndpoint, Version: 1, Timeout: time.Minute, MaxAttempts: 5}}
	for i, t := range triggers {
		t.ID, t.App, t.RegisteredBy = uuid.New(), app.ID, uuid.New()
		if t.Name == "" {
			t.Name = fmt.Sprint("t", i)
		}
		if t.Script == uuid.Nil {
			t.Script = app.Scripts[0].ID
		}
		app.Triggers = append(app.Triggers, t)
	}
	return tenant.NewSnapshot(1, []*tenant.App{app}), app
}

func names(triggers []*tenant.Trigger) string {
	var out []string
	for _, t := range triggers {
		out = append(out, t.Name)
	}
	return strings.Join(out, " ")
}

func TestMatch(t *testing.T) {
	t.Parallel()
	of := func(name, kind string, f tenant.TriggerFilter) tenant.Trigger {
		return tenant.Trigger{Name: name, Kind: kind, Filter: f, Enabled: true}
	}
	gone := of("gone", "kv", tenant.TriggerFilter{Collection: "*"})
	gone.Script = uuid.New()
	s, app := configured(
		of("all", "kv", tenant.TriggerFilter{Collection: "*"}),
		of("users", "kv", tenant.TriggerFilter{Collection: "users", Ops: []string{"update", "delete"}}),
		of("shops", "kv", tenant.TriggerFilter{Collection: "shop:*"}),
		of("docs", "docs", tenant.TriggerFilter{Collection: "*"}),
		tenant.Trigger{Name: "off", Kind: "kv", Filter: tenant.TriggerFilter{Collection: "*"}},
		gone,
		of("topic", "pubsub", tenant.TriggerFilter{Topic: "user.created"}),
		of("under", "pubsub", tenant.TriggerFilter{Topic: "user.*"}),
		of("any", "pubsub", tenant.TriggerFilter{Topic: "*"}),
	)
	for _, c := range []struct {
		change Change
		want   string
	}{
		{Change{Kind: outbox.KindKV, Op: "create", Collection: "users"}, "all"},
		{Change{Kind: outbox.KindKV, Op: "update", Collection: "users"}, "all users"},
		{Change{Kind: outbox.KindKV, Op: "delete", Collection: "users"}, "all users"},
		{Change{Kind: outbox.KindKV, Op: "update", Collection: "users2"}, "all"},
		{Change{Kind: outbox.KindKV, Op: "update", Collection: "shop:"}, "all shops"},
		{Change{Kind: outbox.KindKV, Op: "update", Collection: "shop:a"}, "all shops"},
		{Change{Kind: outbox.KindKV, Op: "update", Collection: "shop"}, "all"},
		{Change{Kind: outbox.KindDocs, Op: "update", Collection: "users"}, "docs"},
		{Change{Kind: outbox.KindFiles, Op: "update", Collection: "users"}, ""},
		{Change{Kind: outbox.KindPubSub, Topic: "user.created"}, "topic under any"},
		{Change{Kind: outbox.KindPubSub, Topic: "user.created.twice"}, "under any"},
		{Change{Kind: outbox.KindPubSub, Topic: "user"}, "any"},
		{Change{Kind: outbox.KindPubSub, Topic: "users.x"}, "any"},
	} {
		if got := names(Match(s, app.ID, &c.change, nil)); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.change.Type(), c.change.Subject(), got, c.want)
		}
	}
	if Match(s, uuid.New(), &Change{Kind: outbox.KindKV, Op: "create", Collection: "users"}, nil) != nil {
		t.Error("another app's change is taken")
	}
}

func TestCaused(t *testing.T) {
	t.Parallel()
	s, app := configured(tenant.Trigger{
		Kind: "kv", Filter: tenant.TriggerFilter{Collection: "*"}, Enabled: true,
		Policy: tenant.Policy{Delay: retry.Duration(time.Second), OrderingKey: "{body.key}", MaxAttempts: 3},
	})
	env, err := (&event.Envelope{ID: "e", TraceParent: "00-trace"}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	cause := &outbox.Entry{ID: uuid.New(), App: app.ID, RootID: uuid.New(), Principal: uuid.New(), Depth: 7, Envelope: env}
	c := &Change{
		Kind: outbox.KindKV, Op: "update", Collection: "users", Key: "a/b",
		Data: json.RawMessage(`{"n": 2}`), Previous: json.RawMessage(`null`),
	}
	found := Match(s, app.ID, c, nil)
	if len(found) != 1 {
		t.Fatalf("%d triggers", len(found))
	}
	e, err := Caused(found[0], c, cause)
	if err != nil {
		t.Fatal(err)
	}
	if e.App != app.ID || e.Lane != found[0].ID || e.Trigger != found[0].ID || e.Target != app.Scripts[0].ID || e.Kind != outbox.KindKV ||
		e.RootID != cause.RootID || e.Depth != 8 || e.Principal != found[0].RegisteredBy || e.Delay != time.Second || e.MaxAttempts != 3 ||
		e.Gate != outbox.OrderGate("a/b") || e.Timeout != time.Minute || e.Owner != 0 || e.Sync() || e.State != outbox.Scheduled {
		t.Errorf("%+v", e)
	}
	if got := string(e.Payload); got != `{"collection":"users","key":"a/b","op":"update","value":{"n":2},"previous":null}` {
		t.Error(got)
	}
	got, err := event.Unmarshal(e.Envelope)
	if err != nil || got.Type != "kv.update" || got.Subject != "users/a/b" || got.Source != "kv" || got.TraceParent != "00-trace" ||
		got.ContentType != "application/json" || got.ID != e.ID.String() {
		t.Errorf("%+v, %v", got, err)
	}
	cause.Depth = outbox.MaxDepth
	if _, err := Caused(found[0], c, cause); !errors.Is(err, outbox.ErrTooDeep) {
		t.Error(err)
	}
	cause.Depth, cause.RootID = 0, uuid.Nil
	if e, err = Caused(found[0], c, cause); err != nil || e.RootID != cause.ID || e.Depth != 1 {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err = Caused(found[0], c, nil); err != nil || e.RootID != e.ID || e.Depth != 0 || e.Principal != found[0].RegisteredBy {
		t.Errorf("%+v, %v", e, err)
	}
	c = &Change{Kind: outbox.KindKV, Op: "update", Collection: "users", Key: strings.Repeat("k", tenant.MaxKey+1)}
	if _, err := Caused(found[0], c, nil); !errors.As(err, new(*tenant.Invalid)) {
		t.Error(err)
	}
}

// What does not fit with the value before it is given without.
func TestPayloadIsBounded(t *testing.T) {
	t.Parallel()
	text := func(n int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("x", n-2) + `"`) }
	for _, size := range []int{MaxData / 2, MaxData/2 + 1} {
		c := &Change{Kind: outbox.KindDocs, Op: "update", Collection: "c", Key: "k", Data: text(size), Previous: text(MaxData / 2)}
		data, err := c.Payload()
		if err != nil {
			t.Fatal(err)
		}
		whole := size == MaxData/2
		if strings.Contains(string(data), `"previous":"`) != whole || strings.HasSuffix(string(data), `"omitted":["previous"]}`) == whole {
			t.Errorf("%d bytes: ...%s", size, data[len(data)-40:])
		}
	}
}
