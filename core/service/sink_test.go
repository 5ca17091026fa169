package service_test

import (
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/mail"
)

// What a script sends to a sink is an entry of the run's chain, with the sink's own limits.
func TestSinkSend(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args, data, contentType, kind string
	}{
		{`{"sink":"out","message":"text"}`, "text", "text/plain; charset=utf-8", trigger.SinkMessage},
		{`{"sink":"out","message":{"a": 1},"type":"order.paid"}`, `{"a": 1}`, "application/json", "order.paid"},
		{`{"sink":"out","message":null}`, "null", "application/json", trigger.SinkMessage},
	} {
		b := setup(t)
		answer, err := b.ask(t, "sink.send", c.args)
		if err != nil || len(b.entries) != 1 {
			t.Fatalf("%s: %v, %v", c.args, answer, err)
		}
		e, cause, to := b.entries[0], b.run.Entry, b.app.Sinks[0]
		env, err := event.Unmarshal(e.Envelope)
		if err != nil || env.Type != c.kind || env.ContentType != c.contentType || env.Subject != "out" || env.TraceParent != "00-trace" {
			t.Errorf("%+v, %v", env, err)
		}
		if answer["id"] != e.ID.String() || string(e.Payload) != c.data || e.Kind != outbox.KindSink || e.Target != to.ID ||
			e.TargetKind != outbox.TargetSink || e.Lane != to.ID || e.MaxAttempts != 6 || e.Timeout != time.Second || e.Priority != 4 ||
			e.RootID != cause.RootID || e.Depth != cause.Depth+1 || e.Principal != cause.Principal || e.App != cause.App {
			t.Errorf("%s: %+v", c.args, e)
		}
	}
	b := setup(t)
	if _, err := b.ask(t, "sink.send", `{"sink":"out","message":1,"delay_ms":1500,"max_attempts":2,"idempotency_key":"k"}`); err != nil {
		t.Fatal(err)
	}
	if e := b.entries[0]; e.Delay != 1500*time.Millisecond || e.MaxAttempts != 2 || e.Idempotency.Key != "k" || e.Idempotency.Scope != e.Lane {
		t.Errorf("%+v", e)
	}
}

func TestSinkRefusals(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		kind  fault.Kind
		words string
	}{
		`{"sink":"none","message":1}`:                            {fault.NotFound, `no sink "none"`},
		`{"sink":"theirs","message":1}`:                          {fault.NotFound, `no sink "theirs"`},
		`{"sink":"email","message":1}`:                           {fault.NotFound, `no sink "email"`},
		`{"sink":"out"}`:                                         {fault.Invalid, "message: is missing"},
		`{"sink":"out","message":1,"type":"a b"}`:                {fault.Invalid, "type"},
		`{"sink":"out","message":1,"type":"a\r\nb"}`:             {fault.Invalid, "type"},
		`{"sink":"out","message":1,"delay_ms":-1}`:               {fault.Invalid, "delay"},
		`{"sink":"out","message":1,"app":"x"}`:                   {fault.Invalid, "there is no argument"},
		`{"sink":"out","message":"` + "\xff" + `"}`:              {fault.Invalid, "UTF-8"},
		`{"sink":"out","message":[` + strings.Repeat(" ", 1<<20): {fault.Invalid, "cannot be read"},
	} {
		setup(t).refused(t, "sink.send", args, want.kind, want.words)
	}
	b := setup(t)
	b.run.Entry.Depth = outbox.MaxDepth
	b.refused(t, "sink.send", `{"sink":"out","message":1}`, fault.LoopDepth, "")
	b.refused(t, "email.send", `{"to":"a@b.c","subject":"s","text":"t"}`, fault.LoopDepth, "")
}

// An e-mail is an entry that holds it whole, from the server's own address unless it says another.
func TestEmailSend(t *testing.T) {
	t.Parallel()
	for args, from := range map[string]string{
		`{"to":"a@b.c","subject":"s","text":"t"}`:                  "PiCloud <picloud@example.com>",
		`{"to":["a@b.c"],"subject":"s","text":"t","from":"x@y.z"}`: "x@y.z",
	} {
		b := setup(t)
		answer, err := b.ask(t, "email.send", args)
		if err != nil || len(b.entries) != 1 {
			t.Fatalf("%v %v", answer, err)
		}
		e := b.entries[0]
		m, err := mail.Parse(e.Payload)
		if err != nil || m.From != from || m.To[0] != "a@b.c" {
			t.Errorf("%s: %v", e.Payload, err)
		}
		env, err := event.Unmarshal(e.Envelope)
		if err != nil || env.ContentType != mail.ContentType || e.Target != tenant.EmailSink || e.TargetKind != outbox.TargetSink ||
			e.Lane != tenant.EmailLane(b.app.ID) || e.Depth != b.run.Entry.Depth+1 || e.App != b.app.ID {
			t.Errorf("%+v %+v %v", env, e, err)
		}
	}
	b := setup(t)
	for args, words := range map[string]string{
		`{"subject":"s","text":"t"}`: "to: is missing", `{"to":"a@b.c\r\nBcc: x@y.z","subject":"s","text":"t"}`: "is no address",
		`{"to":"a@b.c","subject":"s","text":"t","data":"x"}`: "there is no argument", `{"to":"a@b.c","subject":"s","text":"t","priority":101}`: "priority",
	} {
		b.refused(t, "email.send", args, fault.Invalid, words)
	}
	b.email = ""
	b.reload()
	b.refused(t, "email.send", `{"to":"a@b.c","subject":"s","text":"t"}`, fault.Unavailable, "e-mail is not configured: set smtp_host and smtp_from")
}
