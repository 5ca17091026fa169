package api_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/tenant"
)

// wait writes an entry of a lane that waits in the given state.
func (s *server) wait(t *testing.T, app uuid.UUID, lane, target string, state int, more string) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	columns, values := "", ""
	if more != "" {
		columns, values = ", gate, gate_limit, gate_seq, gate_held", ", "+more
	}
	_, err := s.pool.Exec(t.Context(), `INSERT INTO outbox (id, event_id, app, lane, target, root_id, run_at, accepted_at, timeout_ms,
		kind, state, max_attempts, envelope`+columns+`) VALUES ($1, $1, $2, $3, $4, $1, now() + interval '1 hour', now(), 1000, 4, $5, 5,
		'e'`+values+`)`, id, app, lane, target, state)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestQueue(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	script, _ := s.app(t, "a")
	var q api.Queue
	policy := object{
		"max_attempts": 3, "backoff": object{"kind": "table", "delays": []string{"1s", "5m0s"}}, "delay": "10s",
		"ordering_key": "{body.customer}", "rate": object{"limit": 5, "per": "1m0s"},
	}
	s.want(t, 201, "POST", "/api/v1/apps/a/queues", object{"name": "mail", "script": "hello", "policy": policy}, &q)
	if q.ScriptID != script.ID || q.Policy.Backoff.Delays[1] != "5m0s" || q.Policy.Delay != "10s" || q.Policy.Rate.Per != "1m0s" {
		t.Errorf("made %+v", q)
	}
	lane := s.snapshot(t).Lane(uuid.MustParse(q.ID))
	if lane == nil || lane.Script.Name != "hello" || lane.Policy.OrderingKey != "{body.customer}" {
		t.Fatalf("the nodes see %+v", lane)
	}
	for field, wrong := range map[string]object{
		"body.policy.delay":           {"delay": "ten seconds"},
		"body.policy.backoff":         {"backoff": object{"kind": "table"}},
		"body.policy.ordering_key":    {"ordering_key": "{cookie.x}"},
		"body.policy.key_concurrency": {"key_concurrency": 2},
		"body.policy.debounce":        {"debounce": object{"wait": "1s"}, "delay": "1s"},
		"body.policy.rate_key":        {"rate": object{"limit": 1}, "rate_key": "{headers.x-tenant}"}, // a message has none
		"body.policy.rate.per":        {"rate": object{"limit": 1, "per": "0s"}},
		"body.policy.expires_in":      {"expires_in": "1s", "delay": "1s"},
	} {
		p := s.problem(t, 422, "PATCH", "/api/v1/apps/a/queues/mail", object{"policy": wrong})
		if len(p.Errors) != 1 || p.Errors[0].Location != field {
			t.Errorf("%v is wrong at %+v, want %s", wrong, p.Errors, field)
		}
	}
	s.problem(t, 409, "POST", "/api/v1/apps/a/queues", object{"name": "mail", "script": "hello"})
	s.problem(t, 422, "POST", "/api/v1/apps/a/queues", object{"name": "other", "script": "nobody"})
	s.problem(t, 409, "DELETE", "/api/v1/apps/a/scripts/hello", nil)
	s.wait(t, lane.App, q.ID, script.ID, 0, "")
	s.problem(t, 409, "DELETE", "/api/v1/apps/a/queues/mail", nil)
	var counted api.QueueWithCounts
	s.want(t, 200, "GET", "/api/v1/apps/a/queues/mail", nil, &counted)
	if counted.Waiting != 1 || counted.Running != 0 || counted.Name != "mail" {
		t.Errorf("with its counts: %+v", counted)
	}
	var cancelled api.CancelledLane
	s.want(t, 200, "POST", "/api/v1/apps/a/entries/cancel", object{"queue": "mail"}, &cancelled)
	if cancelled.Cancelled != 1 {
		t.Errorf("cancelled %+v", cancelled)
	}
	s.want(t, 204, "DELETE", "/api/v1/apps/a/queues/mail", nil, nil)
}

func TestSendMessage(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	s.want(t, 201, "POST", "/api/v1/apps/a/queues", object{"name": "q", "script": "hello"}, nil)
	send := "/api/v1/apps/a/queues/q/messages"
	var sent api.Accepted
	s.want(t, 202, "POST", send, object{"data": object{"n": 1}, "delay": "5s", "ordering_key": "k"}, &sent)
	m := <-s.sent
	if sent.ExecutionID != executionID.String() || m.ContentType != "application/json" || m.Options.Delay != 5*time.Second ||
		m.Options.OrderingKey != "k" || m.Idempotency != nil || string(m.Data) != `{"n":1}` {
		t.Errorf("sent %+v %s", m, m.Data)
	}
	s.want(t, 202, "POST", send, object{"data_base64": base64.StdEncoding.EncodeToString([]byte{0, 255})}, nil)
	if m := <-s.sent; !slices.Equal(m.Data, []byte{0, 255}) {
		t.Errorf("sent %v", m.Data)
	}
	if r := s.do(t, "POST", send, object{"text": "x"}, "Idempotency-Key", "k1"); r.status != 202 {
		t.Errorf("with a key: %d %s", r.status, r.body)
	}
	if m := <-s.sent; m.Idempotency == nil || m.Idempotency.Key != "k1" || len(m.Idempotency.Hash) != 32 {
		t.Errorf("the key is %+v", m.Idempotency)
	}
	hash := func(message object) []byte {
		t.Helper()
		if r := s.do(t, "POST", send, message, "Idempotency-Key", "k2"); r.status != 202 {
			t.Fatalf("with a key: %d %s", r.status, r.body)
		}
		return (<-s.sent).Idempotency.Hash
	}
	same := hash(object{"text": "x"})
	if !slices.Equal(hash(object{"text": "x"}), same) {
		t.Error("the same request is another")
	}
	for _, other := range []object{
		{"text": "y"}, {"text": "x", "delay": "1s"}, {"text": "x", "ordering_key": "o"}, {"text": "x", "content_type": "text/x"},
	} {
		if slices.Equal(hash(other), same) {
			t.Errorf("%v counts as the request without it", other)
		}
	}
	s.want(t, 202, "POST", send, object{"text": "again"}, &sent)
	if sent.ExecutionID != executionID.String() {
		t.Errorf("a repeat is %+v", sent)
	}
	if p := s.problem(t, 422, "POST", send, object{"text": "reused"}); p.Type != "urn:picloud:problem:idempotency_key_reused" {
		t.Errorf("a key for another request: %s", p.Type)
	}
	if r := s.do(t, "POST", send, object{"text": "overloaded"}); r.status != 429 || r.header.Get("Retry-After") != "3" {
		t.Errorf("too much waits: %d %v", r.status, r.header)
	}
	s.problem(t, 422, "POST", send, object{"text": "x", "data": 1})
	s.problem(t, 422, "POST", send, object{"text": "x", "delay": "soon"})
	s.problem(t, 422, "POST", send, object{"text": "x", "expires_in": "0s"})
}

func TestTriggers(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	script, route := s.app(t, "a")
	triggers := "/api/v1/apps/a/triggers"
	var made api.Trigger
	s.want(t, 201, "POST", triggers, object{"name": "orders", "kind": "http", "route_id": route.ID, "policy": object{"max_attempts": 9}}, &made)
	if made.ScriptID != script.ID || !made.Enabled || made.RegisteredBy == "" {
		t.Errorf("made %+v", made)
	}
	if got := s.snapshot(t).HTTPTrigger(uuid.MustParse(route.ID)); got == nil || got.Policy.MaxAttempts != 9 {
		t.Errorf("the nodes see %+v", got)
	}
	s.problem(t, 409, "POST", triggers, object{"name": "orders2", "kind": "http", "route_id": route.ID})
	s.problem(t, 422, "POST", triggers, object{"name": "x", "kind": "http"})
	for _, typo := range []object{{"scripts": []string{"helo"}}, {"reasons": []string{"exhaust"}}} {
		s.problem(t, 422, "POST", triggers, object{"name": "x", "kind": "dead_letter", "script": "hello", "filter": typo})
	}
	s.problem(t, 422, "PATCH", triggers+"/orders", object{"filter": object{"scripts": []string{"helo"}}})
	s.problem(t, 400, "GET", "/api/v1/apps/a/entries?queue=%ff", nil)
	s.problem(t, 422, "POST", triggers, object{"name": "x", "kind": "dead_letter", "route_id": route.ID, "script": "hello"})
	s.want(t, 201, "POST", triggers, object{
		"name": "failed", "kind": "dead_letter", "script": "hello", "filter": object{"reasons": []string{"exhausted"}, "scripts": []string{script.ID}},
	}, &made)
	if names := made.Filter.Scripts; len(names) != 1 || names[0] != "hello" { // letters are known by the names of scripts
		t.Errorf("it is for %q", names)
	}
	for field, wrong := range map[string]object{
		"body.policy.max_attempts": {"max_attempts": 3},
		"body.policy.delay":        {"delay": "1s"},
		"body.policy.ordering_key": {"ordering_key": "k"},
		"body.policy.batch":        {"batch": object{"size": 10}},
	} {
		p := s.problem(t, 422, "PATCH", triggers+"/failed", object{"policy": wrong})
		if len(p.Errors) != 1 || p.Errors[0].Location != field {
			t.Errorf("%v is wrong at %+v, want %s", wrong, p.Errors, field)
		}
	}
	s.want(t, 200, "PATCH", triggers+"/failed", object{"policy": object{"concurrency": 2, "priority": -3}}, nil)
	s.want(t, 200, "PATCH", triggers+"/failed", object{"enabled": false}, &made)
	if made.Enabled || made.Filter.Reasons[0] != "exhausted" {
		t.Errorf("changed to %+v", made)
	}

	// A release brings triggers and queues back as they were.
	release := appNamed(s.snapshot(t), "a").Release
	s.want(t, 204, "DELETE", triggers+"/orders", nil, nil)
	s.want(t, 200, "POST", fmt.Sprintf("/api/v1/apps/a/releases/%d/activate", release), nil, nil)
	if got := s.snapshot(t).HTTPTrigger(uuid.MustParse(route.ID)); got == nil || got.Name != "orders" {
		t.Errorf("after the way back the nodes see %+v", got)
	}
	s.want(t, 200, "GET", triggers+"/failed", nil, &made)
	if made.Enabled {
		t.Error("the way back enabled a trigger")
	}
}

func TestPauses(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	script, _ := s.app(t, "a")
	s.want(t, 201, "POST", "/api/v1/apps/a/queues", object{"name": "q", "script": "hello"}, nil)
	paused := func() bool { return s.snapshot(t).Lane(uuid.MustParse(script.ID)).Paused }
	for _, what := range []string{"/api/v1/apps/a", "/api/v1/apps/a/scripts/hello"} {
		var p api.Paused
		s.want(t, 200, "POST", what+"/pause", nil, &p)
		s.want(t, 200, "POST", what+"/pause", nil, &p)
		if !p.Paused || !paused() {
			t.Errorf("%s is not paused", what)
		}
		var q api.Queue
		if s.want(t, 200, "GET", "/api/v1/apps/a/queues/q", nil, &q); !q.Paused {
			t.Errorf("with %s its queue is not paused", what)
		}
		s.want(t, 200, "POST", what+"/resume", nil, &p)
		if p.Paused || paused() {
			t.Errorf("%s is still paused", what)
		}
	}
}

func TestEntries(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	script, _ := s.app(t, "a")
	var q api.Queue
	s.want(t, 201, "POST", "/api/v1/apps/a/queues", object{"name": "q", "script": "hello"}, &q)
	app := appNamed(s.snapshot(t), "a").ID
	delayed := s.wait(t, app, script.ID, script.ID, 0, "")
	holder := s.wait(t, app, q.ID, script.ID, 1, `'order/k', 1, 1, true`)
	behind := s.wait(t, app, q.ID, script.ID, 3, `'order/k', 1, 2, false`)
	if _, err := s.pool.Exec(t.Context(), `INSERT INTO gates (app, key, next_seq) VALUES ($1, 'order/k', 3)`, app); err != nil {
		t.Fatal(err)
	}
	var list api.Page[api.Entry]
	s.want(t, 200, "GET", "/api/v1/apps/a/entries?queue=q", nil, &list)
	if len(list.Items) != 2 || list.Items[0].ID != holder.String() {
		t.Errorf("the queue has %+v", list.Items)
	}
	s.want(t, 200, "GET", "/api/v1/apps/a/entries?state=blocked", nil, &list)
	if len(list.Items) != 1 || list.Items[0].ID != behind.String() {
		t.Errorf("blocked are %+v", list.Items)
	}
	why := func(id uuid.UUID) (codes []string, x api.Explanation) {
		s.want(t, 200, "GET", "/api/v1/apps/a/entries/"+id.String()+"/explain", nil, &x)
		for _, r := range x.Reasons {
			codes = append(codes, r.Code)
		}
		return codes, x
	}
	if codes, x := why(delayed); !slices.Equal(codes, []string{"delayed"}) || x.Reasons[0].Until.IsZero() || !x.ExpiresAt.IsZero() {
		t.Errorf("delayed: %+v", x)
	}
	if _, err := s.pool.Exec(t.Context(), `UPDATE outbox SET expires_at = run_at WHERE id = $1`, delayed); err != nil {
		t.Fatal(err)
	}
	if _, x := why(delayed); !x.ExpiresAt.Equal(x.Reasons[0].Until) {
		t.Errorf("delayed and expiring: %+v", x)
	}
	if codes, x := why(behind); !slices.Equal(codes, []string{"gate"}) || !slices.Equal(x.Reasons[0].BlockedBy, []string{holder.String()}) {
		t.Errorf("behind a gate: %+v", x)
	}
	if codes, x := why(holder); !slices.Equal(codes, []string{"slots"}) {
		t.Errorf("ready: %+v", x)
	}

	// Whoever leaves a gate lets the next through.
	var c api.CancelledEntry
	s.want(t, 200, "POST", "/api/v1/apps/a/entries/"+holder.String()+"/cancel", nil, &c)
	if n := s.count(t, `SELECT count(*) FROM outbox WHERE id = $1 AND gate_held`, behind); !c.Ended || n != 1 {
		t.Errorf("ended %v, and %d hold the gate now", c.Ended, n)
	}
	var e api.Entry
	if s.want(t, 200, "GET", "/api/v1/apps/a/entries/"+holder.String(), nil, &e); e.State != "cancelled" {
		t.Errorf("it ended as %s", e.State)
	}
	s.problem(t, 404, "POST", "/api/v1/apps/a/entries/"+holder.String()+"/cancel", nil)
}

// A policy keeps its meaning on the way into the database and back.
func TestPolicyRoundTrip(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	var made api.Script
	s.want(t, 200, "PATCH", "/api/v1/apps/a/scripts/hello", object{"policy": object{
		"concurrency": 3, "batch": object{"size": 10, "window": "2s"}, "expires_in": "1h0m0s",
	}}, &made)
	want := tenant.Policy{Concurrency: 3, Batch: &tenant.Batch{Size: 10, Window: 2e9}, ExpiresIn: 3600e9}
	got := s.snapshot(t).Lane(uuid.MustParse(made.ID)).Policy
	if got.Concurrency != want.Concurrency || *got.Batch != *want.Batch || got.ExpiresIn != want.ExpiresIn {
		t.Errorf("the nodes see %+v", got)
	}
}
