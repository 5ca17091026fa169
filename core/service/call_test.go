package service_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// docsOf are documents in the database of a bundle.
func docsOf(b *bundle) service.Docs { return postgres.NewDocStore(b.pool) }

// callees are runs that others wait for, which do what a test says.
type callees struct {
	entries []*outbox.Entry
	answer  service.Answer
	err     error
}

func (c *callees) Call(_ context.Context, e, _ *outbox.Entry) (*service.Answer, error) {
	c.entries = append(c.entries, e)
	if c.err != nil {
		return nil, c.err
	}
	return &c.answer, nil
}

// A call brings a request, under no policy but the callee's time, and brings back the answer whatever its status.
func TestInvokeCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.callees = &callees{answer: service.Answer{Status: 404, Headers: []event.Header{{Name: "X-A", Value: "1"}}, Body: []byte{255}}}
	b.reload()
	answer, err := b.ask(t, "invoke.call", `{"script":"other","body":{"n":1},"headers":{"x-b":["2","3"]},"timeout_ms":1500}`)
	if err != nil || answer["status"] != 404.0 || answer["body_base64"] != "/w==" || answer["headers"].(map[string]any)["X-A"].([]any)[0] != "1" {
		t.Errorf("%v, %v", answer, err)
	}
	e := b.callees.entries[0]
	if e.Delay != 0 || e.State != 0 || e.Timeout != 1500*time.Millisecond || string(e.Payload) != `{"n":1}` || e.Kind != outbox.KindInvoke ||
		e.Lane != b.app.Scripts[1].ID || e.Principal != b.run.Entry.Principal {
		t.Errorf("%+v", e)
	}
	env, err := event.Unmarshal(e.Envelope)
	if err != nil || env.HTTP.Method != "POST" || env.ContentType != "application/json" || len(env.HTTP.Headers) != 3 || env.TraceParent != "00-trace" {
		t.Errorf("%+v, %v", env, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // less than the callee has
	defer cancel()
	if _, err := b.host.Call(ctx, b.run, "invoke", "call", []byte(`{"script":"other"}`)); err != nil {
		t.Error(err)
	}
	if e := b.callees.entries[1]; e.Timeout > 30*time.Second || e.Timeout < 20*time.Second {
		t.Errorf("it has %s", e.Timeout)
	}
	for _, c := range []struct {
		err    error
		kind   fault.Kind
		origin fault.Origin
		words  string
	}{
		{&fault.Fault{Kind: fault.ScriptError, Origin: fault.Script, Message: "no luck", Detail: "stack"}, fault.ScriptError, fault.Script, `the script "other" failed in execution `},
		{&fault.Fault{Kind: fault.EngineLost, Origin: fault.Plugin, Message: "gone"}, fault.EngineLost, fault.Plugin, `: gone`},
		{&fault.Fault{Kind: fault.Unavailable, Origin: fault.Platform, Message: "full", RetryAfter: 2}, fault.Unavailable, fault.Platform, `"other" was not started: full`},
		{outbox.ErrBudget, fault.LoopBudget, fault.Script, "10000 events"},
		{&outbox.Overloaded{Message: "too fast", RetryAfter: 3}, fault.Overloaded, fault.Script, "too fast"},
	} {
		b.callees.err = c.err
		_, err := b.ask(t, "invoke.call", `{"script":"other"}`)
		if f := fault.From(err); f.Kind != c.kind || f.Origin != c.origin || !strings.Contains(f.Message, c.words) || f.Detail != "" {
			t.Errorf("%v: %+v", c.err, f)
		}
	}
	b.callees.err = nil
	b.callees.answer.Body = make([]byte, 10<<20)
	if _, err := b.ask(t, "invoke.call", `{"script":"other"}`); err != nil {
		t.Error(err)
	}
	b.callees.answer.Body = make([]byte, 10<<20+1)
	b.refused(t, "invoke.call", `{"script":"other"}`, fault.Limit, "10485761 bytes")
	b.refused(t, "invoke.call", `{"script":"secret"}`, fault.NotFound, `no script "secret"`)
	b.refused(t, "invoke.call", `{"script":"library"}`, fault.Invalid, "module")
	b.refused(t, "invoke.call", `{"script":"other","headers":{"x-b":"2\r\nx-c: 3"}}`, fault.Invalid, `"X-B" cannot be sent`)
	b.refused(t, "invoke.call", `{"script":"other","headers":{"x b":"2"}}`, fault.Invalid, `"x b" cannot be sent`)
	b.refused(t, "invoke.call", `{"script":"other","timeout_ms":-1}`, fault.Invalid, "timeout_ms")
	b.refused(t, "invoke.call", `{"script":"other","body":"`+strings.Repeat("x", 1<<20+1)+`"}`, fault.Invalid, "1048577 bytes")
}

// brokenKV is a store with a defect.
type brokenKV struct{ service.KV }

func (brokenKV) Get(context.Context, data.Place) (data.Item, error) { panic("a defect") }

// A defect that a script finds fails its call, and nothing else.
func TestCallsThatPanic(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.kv = brokenKV{}
	b.reload()
	for range 3 {
		b.refused(t, "kv.get", `{"collection":"c","key":"k"}`, fault.Internal, "kv.get failed")
	}
	b.run.Unit = service.NewUnit()
	for range 3 {
		b.refused(t, "kv.get", `{"collection":"c","key":"k"}`, fault.Internal, "kv.get failed")
	}
	if _, err := b.ask(t, "sink.send", `{"sink":"out","message":1}`); err != nil {
		t.Error(err)
	}
}
