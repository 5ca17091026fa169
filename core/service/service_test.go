package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/files"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// store is an outbox that does what a test says.
type store struct {
	append func(n int, e *outbox.Entry) error // n counts the tries, from 1
	hold   func(n int) error

	mu      sync.Mutex
	tries   int
	room    int   // of Hand
	full    error // what it says when there is none
	holds   int
	entries []*outbox.Entry // accepted, in order
}

func (s *store) Append(_ context.Context, e *outbox.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.append != nil {
		if err := s.append(s.tries, e); err != nil {
			return err
		}
	}
	s.entries = append(s.entries, e)
	return nil
}

func (s *store) AppendCaused(_ context.Context, _ uuid.UUID, _ int, commit func(int64) ([]*outbox.Entry, error)) error {
	entries, err := commit(7)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, entries...)
	return nil
}

// InsertAll is within AppendCaused.
func (s *store) InsertAll(_ context.Context, owner int64, entries []*outbox.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if owner != 7 {
		return fmt.Errorf("written as epoch %d", owner)
	}
	if s.append != nil {
		return s.append(s.tries, entries[0])
	}
	return nil
}

// Known is asked by transactional runs only.
func (s *store) Known(context.Context, uuid.UUID, *outbox.Idempotency) (uuid.UUID, error) {
	return uuid.Nil, nil
}

// Hand takes what a test has room for.
func (s *store) Hand(e *outbox.Entry) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room--; s.room < 0 {
		return false, s.full
	}
	s.entries = append(s.entries, e)
	return true, nil
}

func (s *store) Hold(_ context.Context, epoch int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds++
	if epoch != 7 {
		return fmt.Errorf("asked for epoch %d", epoch)
	}
	if s.hold != nil {
		return s.hold(s.holds)
	}
	return nil
}

// bundle is an app with a running script, and one of another.
type bundle struct {
	*store
	host    *service.Host
	run     service.Run
	app     *tenant.App
	kv      service.KV // nil where a test has no database
	docs    service.Docs
	queues  service.Queues
	callees *callees
	pool    *pgxpool.Pool
	web     *web
	secrets *secrets
	email   string // who e-mail is from; empty: there is none

	files    service.Files
	contents *files.Store

	foreign *tenant.App
}

// reload has the host see the apps as they are now.
func (b *bundle) reload() {
	snapshot := tenant.NewSnapshot(1, []*tenant.App{b.app, b.foreign})
	b.host = service.New(service.Config{
		Outbox: b.store, Callees: b.callees, Entries: b.store, Snapshot: func() *tenant.Snapshot { return snapshot }, KV: b.kv, Docs: b.docs, Queues: b.queues,
		Files: b.files, Contents: b.contents, Web: b.web, Secrets: b.secrets, Email: b.email, Log: hclog.NewNullLogger(),
	})
}

func setup(t *testing.T) *bundle {
	t.Helper()
	app := &tenant.App{ID: uuid.New(), Slug: "ours"}
	script := func(of uuid.UUID, name, kind string, version int) tenant.Script {
		return tenant.Script{
			ID: uuid.New(), App: of, Name: name, Kind: kind, Version: version, Hash: "h", Timeout: time.Minute, MaxAttempts: 5,
		}
	}
	app.Scripts = []tenant.Script{
		script(app.ID, "self", tenant.KindEndpoint, 1), script(app.ID, "other", tenant.KindEndpoint, 2),
		script(app.ID, "library", tenant.KindModule, 1), script(app.ID, "empty", tenant.KindEndpoint, 0),
	}
	app.Scripts[1].Policy = tenant.Policy{Delay: retry.Duration(time.Second)}
	app.Sinks = []tenant.Sink{{
		ID: uuid.New(), App: app.ID, Name: "out", Kind: "http", Version: 1, Timeout: time.Second, MaxAttempts: 6,
		Policy: tenant.Policy{Priority: 4},
	}}
	app.Queues = []tenant.Queue{
		{ID: uuid.New(), App: app.ID, Name: "mail", Script: app.Scripts[1].ID, Policy: tenant.Policy{MaxAttempts: 3}},
		{ID: uuid.New(), App: app.ID, Name: "orders", Script: app.Scripts[1].ID, Policy: tenant.Policy{OrderingKey: "{body.id}"}},
	}
	foreign := &tenant.App{ID: uuid.New(), Slug: "theirs"}
	foreign.Scripts = []tenant.Script{script(foreign.ID, "secret", tenant.KindEndpoint, 1)}
	foreign.Sinks = []tenant.Sink{{ID: uuid.New(), App: foreign.ID, Name: "theirs", Kind: "http"}}
	foreign.Queues = []tenant.Queue{{ID: uuid.New(), App: foreign.ID, Name: "vault", Script: foreign.Scripts[0].ID}}
	env, err := (&event.Envelope{ID: "e", TraceParent: "00-trace"}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{
		store: &store{}, web: &web{}, secrets: &secrets{app: app.ID, values: map[string]json.RawMessage{}}, app: app, foreign: foreign,
		email: "PiCloud <picloud@example.com>",
	}
	b.reload()
	b.run = service.Run{Script: &app.Scripts[0], Veil: &secret.Veil{}, Entry: &outbox.Entry{
		ID: uuid.New(), App: app.ID, RootID: uuid.New(), Principal: uuid.New(), Depth: 2, Owner: 7, Envelope: env,
	}}
	return b
}

// ask makes one call, "service.method", and reads its answer.
func (b *bundle) ask(t *testing.T, what, args string) (answer map[string]any, err error) {
	t.Helper()
	name, method, _ := strings.Cut(what, ".")
	out, err := b.host.Call(t.Context(), b.run, name, method, []byte(args))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return answer, nil
}

// refused checks that a call fails with a kind and a message that holds words, and that nothing was accepted.
func (b *bundle) refused(t *testing.T, what, args string, kind fault.Kind, words string) *fault.Fault {
	t.Helper()
	answer, err := b.ask(t, what, args)
	f := fault.From(err)
	if f == nil || f.Kind != kind || !strings.Contains(f.Message, words) {
		t.Errorf("%s %.80s: %+v, %v; want %s with %q", what, args, f, answer, kind, words)
	}
	if len(b.entries) > 0 {
		t.Errorf("%s %.80s: %d entries", what, args, len(b.entries))
	}
	return f
}

func TestInvoke(t *testing.T) {
	t.Parallel()
	b := setup(t)
	answer, err := b.ask(t, "invoke.send", `{"script":"other","data":"{}","content_type":"application/json","delivery":{"priority":-2,"ordering_key":"k"}}`)
	if err != nil || len(b.entries) != 1 {
		t.Fatalf("%v, %v", answer, err)
	}
	e, cause, other := b.entries[0], b.run.Entry, b.app.Scripts[1]
	if answer["id"] != e.ID.String() {
		t.Errorf("%v, not %s", answer, e.ID)
	}
	if e.App != cause.App || e.RootID != cause.RootID || e.Depth != 3 || e.Principal != cause.Principal || e.Owner != 0 {
		t.Errorf("it does not belong to the run: %+v", e)
	}
	if e.Target != other.ID || e.Lane != other.ID || e.Kind != outbox.KindInvoke || e.Timeout != time.Minute || e.MaxAttempts != 5 ||
		e.Delay != time.Second || e.Priority != -2 || e.Gate != outbox.OrderGate("k") || string(e.Payload) != "{}" || e.Sync() {
		t.Errorf("%+v", e)
	}
	env, err := event.Unmarshal(e.Envelope)
	if err != nil || env.HTTP == nil || env.HTTP.Method != "POST" || env.ContentType != "application/json" ||
		env.TraceParent != "00-trace" || env.ID != e.ID.String() || len(env.HTTP.Headers) != 1 {
		t.Errorf("%+v, %v", env, err)
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	answer, err := b.ask(t, "queue.send", `{"queue":"mail","messages":[{"data":"a"},{"data_base64":"/w=="},{"delivery":{"max_attempts":9,"delay_ms":1500}}]}`)
	if err != nil || len(b.entries) != 3 {
		t.Fatalf("%v, %v", answer, err)
	}
	byID := map[string]*outbox.Entry{}
	for _, e := range b.entries {
		byID[e.ID.String()] = e
	}
	for i, data := range []string{"a", "\xff", ""} {
		e := byID[answer["messages"].([]any)[i].(map[string]any)["id"].(string)]
		if e == nil || string(e.Payload) != data || e.Kind != outbox.KindQueue || e.Lane != b.app.Queues[0].ID ||
			e.Target != b.app.Scripts[1].ID || e.Depth != 3 || e.App != b.app.ID {
			t.Errorf("message %d: %+v", i, e)
			continue
		}
		if want := []int{3, 3, 9}[i]; e.MaxAttempts != want || (e.Delay == 1500*time.Millisecond) != (i == 2) {
			t.Errorf("message %d: %d attempts, delay %s", i, e.MaxAttempts, e.Delay)
		}
		if env, err := event.Unmarshal(e.Envelope); err != nil || env.Type != "queue.message" || env.Subject != "mail" || env.HTTP != nil {
			t.Errorf("message %d: %+v, %v", i, env, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	many := `{"queue":"mail","messages":[` + strings.Repeat(`{},`, 100) + `{}]}`
	large := strings.Repeat("x", 1<<20+1)
	for _, c := range []struct {
		what, args string
		kind       fault.Kind
		words      string
	}{
		{"nothing.read", `{}`, fault.NotFound, "nothing.read"},
		{"invoke.sendx", `{}`, fault.NotFound, "invoke.sendx"},
		{"invoke.send", `{"script":"absent"}`, fault.NotFound, `no script "absent"`},
		{"invoke.send", `{"script":"secret"}`, fault.NotFound, `no script "secret"`},
		{"invoke.send", `{"script":"library"}`, fault.Invalid, "module"},
		{"invoke.send", `{"script":"empty"}`, fault.Invalid, "no active version"},
		{"invoke.send", `{"script":"other","app":"x"}`, fault.Invalid, `"app"`},
		{"invoke.send", `{"script":"other","delivery":{"depth":0}}`, fault.Invalid, `"depth"`},
		{"invoke.send", `{"script":"other"} {}`, fault.Invalid, "after top-level value"},
		{"invoke.send", ``, fault.Invalid, "cannot be read"},
		{"invoke.send", `{"script":"other","data":"` + large + `"}`, fault.Invalid, "1048577 bytes"},
		{"invoke.send", `{"script":"other","data":"a","data_base64":"YQ=="}`, fault.Invalid, "exclude"},
		{"invoke.send", `{"script":"other","content_type":"` + large[:256] + `"}`, fault.Invalid, "content_type"},
		{"invoke.send", `{"script":"other","delivery":{"delay_ms":-1}}`, fault.Invalid, "delay"},
		{"invoke.send", `{"script":"other","delivery":{"delay_ms":9223372036854775807}}`, fault.Invalid, "delay"},
		{"invoke.send", `{"script":"other","delivery":{"delay_ms":1,"run_at":"2030-01-01T00:00:00Z"}}`, fault.Invalid, "run_at"},
		{"invoke.send", `{"script":"other","delivery":{"run_at":"9999-01-01T00:00:00Z"}}`, fault.Invalid, "run_at"},
		{"invoke.send", `{"script":"other","delivery":{"priority":101}}`, fault.Invalid, "priority"},
		{"invoke.send", `{"script":"other","delivery":{"max_attempts":26}}`, fault.Invalid, "max_attempts"},
		{"invoke.send", `{"script":"other","delivery":{"ordering_key":"a\u0000"}}`, fault.Invalid, "zero byte"},
		{"invoke.send", `{"script":"other","delivery":{"ordering_key":"a","concurrency_key":"b"}}`, fault.Invalid, "concurrency_key"},
		{"invoke.send", `{"script":"other","delivery":{"idempotency_key":"` + large[:256] + `"}}`, fault.Invalid, "idempotency_key"},
		{"queue.send", `{"queue":"absent","messages":[{}]}`, fault.NotFound, `no queue "absent"`},
		{"queue.send", `{"queue":"vault","messages":[{}]}`, fault.NotFound, `no queue "vault"`},
		{"queue.send", many, fault.Invalid, "101 messages"},
		{"queue.send", `{"queue":"mail","messages":[{},{"delivery":{"priority":-101}}]}`, fault.Invalid, "message 1"},
	} {
		setup(t).refused(t, c.what, c.args, c.kind, c.words)
	}
}

// A run at the end of its chain may not lengthen it, whatever it sends.
func TestDepth(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run.Entry.Depth = outbox.MaxDepth
	b.refused(t, "invoke.send", `{"script":"other"}`, fault.LoopDepth, b.run.Entry.RootID.String())
	b.refused(t, "queue.send", `{"queue":"mail","messages":[{}]}`, fault.LoopDepth, "circle")
	b.run.Entry.Depth--
	if _, err := b.ask(t, "invoke.send", `{"script":"other"}`); err != nil || b.entries[0].Depth != outbox.MaxDepth {
		t.Errorf("%v", err)
	}
}

func TestWhatTheOutboxRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err   error
		kind  fault.Kind
		words string
		after time.Duration
	}{
		{outbox.ErrBudget, fault.LoopBudget, "10000 events", 0},
		{outbox.ErrTooDeep, fault.LoopDepth, "too deep", 0},
		{outbox.ErrKeyReused, fault.Invalid, "another request", 0},
		{&outbox.Overloaded{Message: "too much waits", RetryAfter: 3 * time.Second}, fault.Overloaded, "too much waits", 3 * time.Second},
		{&outbox.Rejected{Err: errors.New("odd")}, fault.Invalid, "odd", 0},
		{outbox.ErrFenced, fault.Unavailable, "try again", time.Second},
		{errors.New("host=db password=x"), fault.Unavailable, "try again", time.Second},
	} {
		b := setup(t)
		b.append = func(int, *outbox.Entry) error { return c.err }
		f := b.refused(t, "invoke.send", `{"script":"other"}`, c.kind, c.words)
		if f != nil && (f.RetryAfter != c.after || strings.Contains(f.Message, "password")) {
			t.Errorf("%v: %+v", c.err, f)
		}
	}
}

func TestSentBefore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := uuid.New()
	var keys []*outbox.Idempotency
	b.append = func(_ int, e *outbox.Entry) error {
		keys = append(keys, e.Idempotency)
		return fmt.Errorf("append: %w", &outbox.Duplicate{Entry: first})
	}
	for _, data := range []string{"a", "a", "b"} {
		answer, err := b.ask(t, "invoke.send", `{"script":"other","data":"`+data+`","delivery":{"idempotency_key":"k"}}`)
		if err != nil || answer["id"] != first.String() {
			t.Errorf("%v, %v", answer, err)
		}
	}
	if string(keys[0].Hash) != string(keys[1].Hash) || string(keys[0].Hash) == string(keys[2].Hash) || keys[0].Key != "k" ||
		keys[0].Scope != b.app.Scripts[1].ID {
		t.Errorf("%+v", keys)
	}
}

// The messages of one ordering key are written in order, and none after one that was refused; others are not held up.
func TestOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.append = func(_ int, e *outbox.Entry) error {
		if string(e.Payload) == `{"id":"a","n":2}` {
			return outbox.ErrBudget
		}
		return nil
	}
	answer, err := b.ask(t, "queue.send", `{"queue":"orders","messages":[
		{"data":"{\"id\":\"a\",\"n\":1}"}, {"data":"{\"id\":\"b\",\"n\":1}"}, {"data":"{\"id\":\"a\",\"n\":2}"},
		{"data":"{\"id\":\"b\",\"n\":2}"}, {"data":"{\"id\":\"a\",\"n\":3}"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	var codes []any
	for _, m := range answer["messages"].([]any) {
		codes = append(codes, m.(map[string]any)["code"])
	}
	if fmt.Sprint(codes) != "[<nil> <nil> loop_budget <nil> loop_budget]" {
		t.Errorf("%v", answer)
	}
	var bs []string
	for _, e := range b.entries {
		if e.Gate == outbox.OrderGate("b") {
			bs = append(bs, string(e.Payload))
		}
	}
	if fmt.Sprint(bs) != `[{"id":"b","n":1} {"id":"b","n":2}]` {
		t.Errorf("%v", bs)
	}
}

// A node that is in doubt whether the run is still its own lets it do nothing until it knows.
func TestHold(t *testing.T) {
	t.Parallel()
	lost := fault.New(fault.Cancelled, fault.Platform, "the node lost its lease")
	for at := 1; at <= 2; at++ { // when the call comes, and before it writes
		b := setup(t)
		b.hold = func(n int) error {
			if n == at {
				return lost
			}
			return nil
		}
		if f := b.refused(t, "invoke.send", `{"script":"other"}`, fault.Cancelled, "lease"); f != lost || b.tries != 0 {
			t.Errorf("held %d times: %+v, %d tries", at, f, b.tries)
		}
	}
	b := setup(t) // found without its lease in between: it waits and writes, as if for the first time
	b.append = func(n int, e *outbox.Entry) error {
		if e.State != 0 || e.Attempt != 0 || e.Owner != 0 {
			t.Errorf("try %d: %+v", n, e)
		}
		if n == 1 {
			e.State, e.Attempt, e.Owner = outbox.Running, 1, 7
			return outbox.ErrFenced
		}
		return nil
	}
	if answer, err := b.ask(t, "invoke.send", `{"script":"other"}`); err != nil || b.tries != 2 || b.holds != 3 {
		t.Errorf("%v, %v, %d tries, %d holds", answer, err, b.tries, b.holds)
	}
}

func TestRunThatEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	over := errors.New("over")
	ctx, cancel := context.WithCancelCause(t.Context())
	b.append = func(int, *outbox.Entry) error { cancel(over); return ctx.Err() }
	for _, c := range [][2]string{
		{"invoke", `{"script":"other"}`},
		{"queue", `{"queue":"mail","messages":[{},{}]}`},
	} {
		if _, err := b.host.Call(ctx, b.run, c[0], "send", []byte(c[1])); !errors.Is(err, over) {
			t.Errorf("%s: %v", c[0], err)
		}
	}
}

// A defect that one call finds is told to its script, and ends nothing else: also where messages are sent beside one another.
func TestPanic(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.append = func(n int, _ *outbox.Entry) error {
		if n <= 2 {
			panic("a defect")
		}
		return nil
	}
	if _, err := b.ask(t, "invoke.send", `{"script":"other"}`); err == nil || fault.From(err).Kind != fault.Internal || fault.From(err).Origin != fault.Platform {
		t.Error(err)
	}
	answer, err := b.ask(t, "queue.send", `{"queue":"mail","messages":[{"data":"a"},{"data":"b"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for _, m := range answer["messages"].([]any) {
		if m.(map[string]any)["code"] == string(fault.Internal) {
			lost++
		}
	}
	if lost != 1 || len(b.entries) != 1 {
		t.Errorf("%v, %d entries", answer, len(b.entries))
	}
}
