package api_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// sinkChecker knows the kinds http and smtp, and what has a field "wrong" is.
type sinkChecker struct{}

// Check is part of api.SinkChecker.
func (sinkChecker) Check(_ context.Context, _ uuid.UUID, kind string, config json.RawMessage) error {
	switch {
	case kind != "http" && kind != "smtp":
		return &tenant.Invalid{Field: "kind", Message: "there is none"}
	case strings.Contains(string(config), "wrong"):
		return &tenant.Invalid{Field: "config", Message: "it is wrong"}
	case strings.Contains(string(config), "away"):
		return fault.New(fault.Unavailable, fault.Platform, "the sink cannot be started")
	}
	return nil
}

// TestSink is part of api.SinkTester.
func (s *server) TestSink(_ context.Context, k tenant.Sink, kind string, data []byte, _ uuid.UUID, _ *outbox.Idempotency) (uuid.UUID, error) {
	s.sent <- api.Message{Data: append([]byte(k.Name+" "+kind+" "), data...)}
	return executionID, nil
}

func TestSinks(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	sinks := "/api/v1/apps/a/sinks"
	config := object{"url": "https://example.com", "keys": []object{{"secret": "KEY"}}}
	var made, got api.Sink
	s.want(t, 201, "POST", sinks, object{"name": "hook", "kind": "http", "config": config}, &made)
	if made.Version != 1 || made.TimeoutMS != 30_000 || made.MaxAttempts != 8 || !strings.Contains(string(made.Config), `"KEY"`) {
		t.Errorf("%+v", made)
	}
	s.want(t, 200, "GET", sinks+"/hook", nil, &got)
	if got.ID != made.ID {
		t.Errorf("%+v", got)
	}
	s.want(t, 200, "PATCH", sinks+"/hook", object{"timeout_ms": 1000, "max_attempts": 3, "policy": object{"concurrency": 2}}, &got)
	if got.Version != 1 || got.TimeoutMS != 1000 || got.MaxAttempts != 3 || got.Policy.Concurrency != 2 {
		t.Errorf("%+v", got)
	}
	s.want(t, 200, "PATCH", sinks+"/"+made.ID, object{"config": object{"url": "https://example.org"}}, &got)
	if got.Version != 2 || got.TimeoutMS != 1000 || !strings.Contains(string(got.Config), "example.org") {
		t.Errorf("%+v", got)
	}
	for _, wrong := range []object{
		{"name": "x", "kind": "smoke", "config": object{}},
		{"name": "x", "kind": "http", "config": object{"wrong": 1}},
		{"name": "x", "kind": "http"},
		{"name": "X", "kind": "http", "config": object{}},
		{"name": "email", "kind": "http", "config": object{}},
		{"name": "x", "kind": "http", "config": object{}, "timeout_ms": 300_001},
		{"name": "x", "kind": "http", "config": object{}, "max_attempts": 26},
	} {
		s.problem(t, 422, "POST", sinks, wrong)
	}
	s.problem(t, 409, "POST", sinks, object{"name": "hook", "kind": "smtp", "config": object{}})
	s.problem(t, 503, "POST", sinks, object{"name": "x", "kind": "http", "config": object{"away": 1}})
	s.problem(t, 422, "PATCH", sinks+"/hook", object{"config": object{"wrong": 1}})

	var sent api.Accepted
	s.want(t, 202, "POST", sinks+"/hook/test", object{"type": "a.b", "data": object{"x": 1}}, &sent)
	if m := <-s.sent; string(m.Data) != `hook a.b {"x":1}` || sent.ExecutionID != executionID.String() {
		t.Errorf("%s %+v", m.Data, sent)
	}
	s.want(t, 202, "POST", sinks+"/hook/test", object{}, &sent)
	if m := <-s.sent; string(m.Data) != `hook  {"test":true}` {
		t.Errorf("%s", m.Data)
	}

	// A trigger leads to a script or to a sink, and a sink stays as long as one leads to it.
	triggers := "/api/v1/apps/a/triggers"
	var trigger api.Trigger
	s.want(t, 201, "POST", triggers, object{"name": "out", "kind": "pubsub", "sink": "hook", "filter": object{"topic": "*"}}, &trigger)
	if trigger.Sink != "hook" || trigger.SinkID != made.ID || trigger.Script != "" {
		t.Errorf("%+v", trigger)
	}
	if lane := s.snapshot(t).Lane(uuid.MustParse(trigger.ID)); lane == nil || lane.Sink == nil || lane.Sink.Name != "hook" || !lane.Active() {
		t.Errorf("%+v", lane)
	}
	for _, wrong := range []object{
		{"name": "x", "kind": "pubsub", "sink": "hook", "script": "hello", "filter": object{"topic": "*"}},
		{"name": "x", "kind": "pubsub", "sink": "none", "filter": object{"topic": "*"}},
		{"name": "x", "kind": "http", "sink": "hook"},
	} {
		s.problem(t, 422, "POST", triggers, wrong)
	}
	release := s.count(t, "SELECT release FROM apps WHERE slug = 'a'")
	if p := s.problem(t, 409, "DELETE", sinks+"/hook", nil); !strings.Contains(p.Detail, "out") {
		t.Errorf("%+v", p)
	}
	s.want(t, 204, "DELETE", triggers+"/out", nil, nil)
	s.want(t, 204, "DELETE", sinks+"/hook", nil, nil)
	s.problem(t, 404, "GET", sinks+"/hook", nil)
	// A release in which a trigger led to a sink that is gone is restored without it.
	s.want(t, 200, "POST", "/api/v1/apps/a/releases/"+strings.TrimSpace(jsonText(release))+"/activate", nil, nil)
	s.problem(t, 404, "GET", triggers+"/out", nil)
}

func jsonText(v any) string {
	b, _ := json.Marshal(v) // numbers always encode
	return string(b)
}

// What a sink is paused by, and that it is.
func TestPauseOfSinks(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	var k api.Sink
	s.want(t, 201, "POST", "/api/v1/apps/a/sinks", object{"name": "hook", "kind": "http", "config": object{}}, &k)
	s.want(t, 200, "POST", "/api/v1/apps/a/sinks/hook/pause", nil, nil)
	s.want(t, 200, "GET", "/api/v1/apps/a/sinks/hook", nil, &k)
	if lane := s.snapshot(t).Lane(uuid.MustParse(k.ID)); !k.Paused || !lane.Paused {
		t.Errorf("%+v %+v", k, lane)
	}
	s.want(t, 200, "POST", "/api/v1/apps/a/sinks/hook/resume", nil, nil)
	s.want(t, 200, "GET", "/api/v1/apps/a/sinks/hook", nil, &k)
	if k.Paused {
		t.Error("it is paused still")
	}
}
