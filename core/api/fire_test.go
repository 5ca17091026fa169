package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/api"
)

func TestTriggersOfEvents(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	triggers := "/api/v1/apps/a/triggers"
	add := func(name, kind string, filter object) (made api.Trigger) {
		t.Helper()
		s.want(t, 201, "POST", triggers, object{
			"name": name, "kind": kind, "script": "hello", "filter": filter, "policy": object{"ordering_key": "{body.key}"},
		}, &made)
		return made
	}
	made := add("kv", "kv", object{"collection": "users*", "ops": []string{"create", "delete"}, "when": "data.value.age > 17"})
	if made.Filter.Collection != "users*" || len(made.Filter.Ops) != 2 || made.Filter.When != "data.value.age > 17" || made.Kind != "kv" {
		t.Errorf("%+v", made)
	}
	add("docs", "docs", object{"collection": "*"})
	add("files", "files", object{"collection": "images"})
	add("topic", "pubsub", object{"topic": "user.*"})
	add("night", "cron", object{"schedule": "0 3 * * *", "time_zone": "Europe/Berlin"})
	snapshot := s.snapshot(t)
	app := appNamed(snapshot, "a").ID
	for _, kind := range []string{"kv", "docs", "files", "pubsub", "cron"} {
		if found := snapshot.Triggers(app, kind); len(found) != 1 || found[0].Lane == nil || found[0].Lane.Script.Name != "hello" {
			t.Errorf("%s: the nodes see %+v", kind, found)
		}
	}
	s.want(t, 200, "PATCH", triggers+"/docs", object{"enabled": false}, nil)
	if snapshot := s.snapshot(t); snapshot.Triggers(app, "docs") != nil || snapshot.Lane(uuid.MustParse(made.ID)) == nil {
		t.Error("a trigger that is disabled takes events")
	}

	for _, c := range []struct {
		kind   string
		filter object
		at     string
	}{
		{"kv", object{}, "collection"},
		{"kv", object{"collection": "a*b"}, "collection"},
		{"kv", object{"collection": "a", "ops": []string{"insert"}}, "ops[0]"},
		{"kv", object{"collection": "a", "when": "data.value >"}, "when"},
		{"kv", object{"collection": "a", "when": "event.colection == 'a'"}, "when"},
		{"kv", object{"collection": "a", "topic": "t"}, "topic"},
		{"pubsub", object{"topic": "*.created"}, "topic"},
		{"pubsub", object{"topic": "user.*x"}, "topic"},
		{"pubsub", object{}, "topic"},
		{"cron", object{"schedule": "every day"}, "schedule"},
		{"cron", object{"schedule": "0 0 30 2 *"}, "schedule"},
		{"cron", object{"schedule": "* * * * *", "time_zone": "Mars"}, "time_zone"},
		{"cron", object{}, "schedule"},
		{"dead_letter", object{"collection": "a"}, "collection"},
	} {
		p := s.problem(t, 422, "POST", triggers, object{"name": "x", "kind": c.kind, "script": "hello", "filter": c.filter})
		if len(p.Errors) != 1 || p.Errors[0].Location != "body.filter."+c.at {
			t.Errorf("%s %v is wrong at %+v, want %s", c.kind, c.filter, p.Errors, c.at)
		}
	}
	p := s.problem(t, 422, "PATCH", triggers+"/night", object{"filter": object{"schedule": "* *"}})
	if p.Errors[0].Location != "body.filter.schedule" {
		t.Errorf("%+v", p)
	}
	s.problem(t, 422, "POST", triggers, object{"name": "x", "kind": "kv", "filter": object{"collection": "a"}})
	s.problem(t, 422, "POST", triggers, object{"name": "x", "kind": "kv", "script": "hello", "filter": object{"collection": "a"}, "policy": object{"ordering_key": "{headers.x}"}})
	s.problem(t, 422, "POST", triggers, object{"name": "x", "kind": "smoke", "script": "hello"})
}

func TestTriggerTimes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	s.want(t, 201, "POST", "/api/v1/apps/a/triggers", object{
		"name": "night", "kind": "cron", "script": "hello", "filter": object{"schedule": "30 2 * * *", "time_zone": "Asia/Kathmandu"},
	}, nil)
	s.want(t, 201, "POST", "/api/v1/apps/a/triggers", object{"name": "dead", "kind": "dead_letter", "script": "hello"}, nil)
	var times api.TriggerTimes
	s.want(t, 200, "GET", "/api/v1/apps/a/triggers/night/next", nil, &times)
	if len(times.Items) != 5 {
		t.Fatalf("%+v", times)
	}
	for i, at := range times.Items {
		if !strings.HasSuffix(at.Local, "T02:30:00+05:45") || at.At.Location() != time.UTC ||
			i > 0 && at.At.Sub(times.Items[i-1].At) != 24*time.Hour {
			t.Errorf("%d: %+v", i, at)
		}
	}
	s.want(t, 200, "GET", "/api/v1/apps/a/triggers/night/next?count=100", nil, &times)
	if len(times.Items) != 100 {
		t.Errorf("%d times", len(times.Items))
	}
	s.problem(t, 422, "GET", "/api/v1/apps/a/triggers/night/next?count=101", nil)
	s.problem(t, 409, "GET", "/api/v1/apps/a/triggers/dead/next", nil)
}

func TestFire(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	for _, made := range []object{
		{"name": "kv", "kind": "kv", "filter": object{"collection": "users*", "ops": []string{"update"}, "when": "data.value.age > 17"}},
		{"name": "docs", "kind": "docs", "filter": object{"collection": "*", "ops": []string{"delete"}}, "enabled": false},
		{"name": "topic", "kind": "pubsub", "filter": object{"topic": "user.*"}},
		{"name": "night", "kind": "cron", "filter": object{"schedule": "0 3 * * *"}},
		{"name": "dead", "kind": "dead_letter"},
	} {
		made["script"] = "hello"
		s.want(t, 201, "POST", "/api/v1/apps/a/triggers", made, nil)
	}
	fire := func(name string, body object) (string, string) {
		t.Helper()
		var sent api.Accepted
		s.want(t, 202, "POST", "/api/v1/apps/a/triggers/"+name+"/fire", body, &sent)
		f := <-s.fired
		if sent.ExecutionID != executionID.String() || f.trigger != name || f.key != nil {
			t.Errorf("%+v, %+v", sent, f)
		}
		data, err := f.change.Payload()
		if err != nil {
			t.Fatal(err)
		}
		return f.change.Type() + " " + f.change.Subject(), string(data)
	}
	for _, c := range []struct {
		name       string
		body       object
		what, data string
	}{
		{"kv", object{"data": object{"age": 18}}, "kv.update userstest/test", `{"collection":"userstest","key":"test","op":"update","value":{"age":18}}`},
		{"kv", object{"data": object{"age": 18}, "previous": 1, "collection": "users", "key": "k"}, "kv.update users/k", `{"collection":"users","key":"k","op":"update","value":{"age":18},"previous":1}`},
		{"docs", object{}, "docs.delete test/test", `{"collection":"test","id":"test","op":"delete"}`},
		{"topic", object{"data": "hi"}, "pubsub.message user.test", `"hi"`},
		{"topic", object{"topic": "user.a.b"}, "pubsub.message user.a.b", `null`},
	} {
		if what, data := fire(c.name, c.body); what != c.what || data != c.data {
			t.Errorf("%s %v: %s %s", c.name, c.body, what, data)
		}
	}
	if what, data := fire("night", object{}); what != "cron.tick " || !strings.HasPrefix(data, `{"scheduled_at":"2`) {
		t.Errorf("%s %s", what, data)
	}
	for _, c := range []struct {
		name string
		body object
		at   string
	}{
		{"kv", object{"data": object{"age": 17}}, "body.data"},
		{"kv", object{"data": object{}}, "body.data"},
		{"kv", object{"data": object{"age": 18}, "op": "delete"}, "body.op"},
		{"kv", object{"data": object{"age": 18}, "collection": "shops"}, "body.collection"},
		{"kv", object{"data": object{"age": 18}, "topic": "t"}, "body"},
		{"topic", object{"topic": "users"}, "body.topic"},
		{"topic", object{"topic": "user."}, "body.topic"},
		{"topic", object{"key": "k"}, "body"},
		{"night", object{"data": 1}, "body.data"},
		{"night", object{"op": "create"}, "body"},
	} {
		p := s.problem(t, 422, "POST", "/api/v1/apps/a/triggers/"+c.name+"/fire", c.body)
		if len(p.Errors) != 1 || p.Errors[0].Location != c.at {
			t.Errorf("%s %v is wrong at %+v, want %s", c.name, c.body, p.Errors, c.at)
			continue
		}
		if what := p.Errors[0].Message; c.at == "body" && !strings.HasSuffix(what, map[string]string{
			"kv": "kv is fired with collection, key, op, data and previous", "topic": "pubsub is fired with topic and data", "night": "cron is fired with nothing: its script is given the time",
		}[c.name]) {
			t.Errorf("%s %v: %s", c.name, c.body, what)
		}
	}
	s.problem(t, 409, "POST", "/api/v1/apps/a/triggers/dead/fire", object{})
	if r := s.do(t, "POST", "/api/v1/apps/a/triggers/topic/fire", object{}, "Idempotency-Key", "k1"); r.status != 202 {
		t.Errorf("with a key: %d %s", r.status, r.body)
	}
	if f := <-s.fired; f.key == nil || f.key.Key != "k1" || f.key.Scope == uuid.Nil {
		t.Errorf("the key is %+v", f.key)
	}
	large := `"` + strings.Repeat("x", 1<<20-2) + `"`
	if r := s.do(t, "POST", "/api/v1/apps/a/triggers/topic/fire", `{"data":`+large+`}`); r.status != 202 {
		t.Errorf("1 MiB: %d %s", r.status, r.body)
	}
	<-s.fired
	if r := s.do(t, "POST", "/api/v1/apps/a/triggers/topic/fire", `{"data":"y`+large[1:]+`}`); r.status != 413 {
		t.Errorf("1 MiB and a byte: %d %s", r.status, r.body)
	}
}
