package trigger

import (
	"encoding/json"
	"testing"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
)

func TestMail(t *testing.T) {
	t.Parallel()
	s, app := configured(
		tenant.Trigger{Kind: tenant.TriggerEmail, Name: "all", Enabled: true},
		tenant.Trigger{Kind: tenant.TriggerEmail, Name: "some", Enabled: true, Filter: tenant.TriggerFilter{To: "*@b.example", When: `data.subject == "hi"`}},
		tenant.Trigger{Kind: tenant.TriggerSource, Name: "source", Enabled: true, Filter: tenant.TriggerFilter{Source: "post", Type: "email.*"}},
	)
	for data, want := range map[string]int{
		`{"to":["x@b.example"],"subject":"hi"}`: 2, `{"to":["x@c.example"],"cc":["y@b.example"],"subject":"hi"}`: 2,
		`{"to":["x@b.example"],"recipients":["x@c.example"],"subject":"hi"}`: 1, `{"to":["x@b.example"],"subject":"ho"}`: 1,
	} {
		mail, err := Mail(json.RawMessage(data))
		if err != nil {
			t.Fatal(err)
		}
		entries, unfit, err := Entries(s, app.ID, mail, nil)
		if err != nil || len(unfit) > 0 || len(entries) != want {
			t.Errorf("%s: %d entries, %v, %v", data, len(entries), unfit, err)
		}
		for _, e := range entries {
			env, err := event.Unmarshal(e.Envelope)
			if err != nil || env.Type != MailType || e.Kind != outbox.KindEmail || string(e.Payload) != data {
				t.Errorf("%+v, %v", env, err)
			}
		}
	}
	if _, err := Mail(json.RawMessage(`[]`)); err == nil {
		t.Error("a list is mail")
	}
	c := &Change{Kind: outbox.KindSource, Source: "post", Topic: MailType, About: "hi", Data: json.RawMessage(`{}`), ContentType: "application/json"}
	if entries, _, err := Entries(s, app.ID, c, nil); err != nil || len(entries) != 1 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

// A policy that cannot be applied to an event leaves out that trigger alone.
func TestUnfit(t *testing.T) {
	t.Parallel()
	s, app := configured(
		tenant.Trigger{Kind: tenant.TriggerSource, Name: "a", Enabled: true, Policy: tenant.Policy{OrderingKey: "{body.id}"}},
		tenant.Trigger{Kind: tenant.TriggerSource, Name: "b", Enabled: true},
	)
	c := &Change{Kind: outbox.KindSource, Source: "f", Topic: "x", Data: json.RawMessage(`{}`), ContentType: "application/json"}
	if entries, unfit, err := Entries(s, app.ID, c, nil); err != nil || len(entries)+len(unfit) != 2 || len(entries) == 0 {
		t.Errorf("%d entries, %v, %v", len(entries), unfit, err)
	}
}
