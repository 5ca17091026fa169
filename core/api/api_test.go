package api_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/coretest"
	coreengine "github.com/picloud/picloud/core/engine"
	"github.com/picloud/picloud/core/explain"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

func TestMain(m *testing.M) { coretest.Main(m) }

// server is the API over a database of its own, with the parts that run scripts replaced.
type server struct {
	*httptest.Server
	pool    *pgxpool.Pool
	vault   *secret.Vault
	token   string
	changes atomic.Int64
	checked atomic.Int64 // bundles
	ready   error
	invoked chan api.Invocation
	sent    chan api.Message
	fired   chan fired

	quarantined []coreengine.Quarantine
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{pool: coretest.DB(t), invoked: make(chan api.Invocation, 10), sent: make(chan api.Message, 10), fired: make(chan fired, 10)}
	users := postgres.NewUserStore(s.pool)
	masters, err := secret.ParseMasters(base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	s.vault = secret.New(masters, postgres.NewSecretStore(s.pool), hclog.NewNullLogger())
	if err := s.vault.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	token, _, err := auth.Bootstrap(t.Context(), users)
	if err != nil {
		t.Fatal(err)
	}
	s.token = token
	s.Server = httptest.NewServer(api.New(api.Config{
		Apps:        postgres.NewAppStore(s.pool),
		Scripts:     postgres.NewScriptStore(s.pool),
		Versions:    postgres.NewVersionStore(s.pool),
		Routes:      postgres.NewRouteStore(s.pool),
		Queues:      postgres.NewQueueStore(s.pool),
		Triggers:    postgres.NewTriggerStore(s.pool),
		Sinks:       postgres.NewSinkStore(s.pool),
		SinkChecker: sinkChecker{},
		Sources:     postgres.NewSourceStore(s.pool),
		SourceCheck: sinkChecker{},
		SinkTester:  s,
		Pauses:      postgres.NewPauseStore(s.pool),
		Entries:     postgres.NewEntryStore(s.pool),
		Lanes:       s,
		Sender:      s,
		Firer:       s,
		Releases:    postgres.NewReleaseStore(s.pool),
		Snapshots:   postgres.NewSnapshotStore(s.pool, tenant.MaxLimits()),
		Executions:  postgres.NewExecutionStore(s.pool),
		Usage:       postgres.NewHistoryStore(s.pool),
		DeadLetters: postgres.NewDeadLetterStore(s.pool),
		Secrets:     s.vault,
		Auth:        auth.New(users),
		Checker:     s,
		Trials:      s,
		Invoker:     s,
		Replayer:    s,
		Changed:     func() { s.changes.Add(1) },
		Ready:       func() error { return s.ready },
		Quarantined: func() []coreengine.Quarantine { return s.quarantined },
		Metrics:     http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("numbers")) }),
		MaxLimits:   tenant.Limits{MemoryBytes: 200 << 20},
		Version:     "0.0.0-test",
		Log:         hclog.NewNullLogger(),
	}))
	t.Cleanup(s.Close)
	return s
}

// newAnonymous is the API with nothing behind it.
func newAnonymous(t *testing.T) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(api.New(api.Config{
		Auth: auth.New(noKeys{}), Ready: func() error { return s.ready }, Isolation: []api.Layer{{Name: "uid", Why: "only root can"}}, Version: "0.0.0-test", Log: hclog.NewNullLogger(),
	}))
	t.Cleanup(s.Close)
	return s
}

type noKeys struct{}

func (noKeys) KeyByPrefix(context.Context, string) (auth.Key, error) {
	return auth.Key{}, auth.ErrNoKey
}

// Check finds an error in sources that say so. A source has words: "import app/x" takes in all of the module x, and "use:y" needs
// that the module defines "y".
func (s *server) Check(_ context.Context, _ string, bundles []engine.Bundle) (all []engine.Loaded, err error) {
	for _, b := range bundles {
		loaded, err := check(b)
		if all = append(all, loaded); err != nil {
			return all, err
		}
	}
	s.checked.Add(int64(len(bundles)))
	return all, nil
}

func check(b engine.Bundle) (l engine.Loaded, err error) {
	fail := func(message string) (engine.Loaded, error) {
		l.Diagnostics = []engine.Diagnostic{{File: b.Files[0].Name, Line: 3, Column: 7, Message: message}}
		return l, fault.New(fault.Compile, fault.Script, "%s:3:7: %s", b.Files[0].Name, message)
	}
	text := string(b.Files[0].Data)
	if strings.Contains(text, "syntax error") {
		return fail("expected ';'")
	}
	words := strings.Fields(text)
	var taken strings.Builder
	for _, word := range words {
		if name, ok := strings.CutPrefix(word, "app/"); ok {
			l.Imports = append(l.Imports, name)
			i := slices.IndexFunc(b.Modules, func(m engine.Module) bool { return m.Name == name })
			if i < 0 {
				return fail("there is no module " + name)
			}
			taken.Write(b.Modules[i].Files[0].Data)
		}
	}
	for _, word := range words {
		if name, ok := strings.CutPrefix(word, "use:"); ok && !strings.Contains(taken.String(), name) {
			return fail("undefined: " + name)
		}
	}
	return l, nil
}

// Send accepts a message, but for the second of an idempotency key, and for what says how it is to be refused.
func (s *server) Send(_ context.Context, _ tenant.Queue, m api.Message) (uuid.UUID, error) {
	switch string(m.Data) {
	case "again":
		return uuid.Nil, &outbox.Duplicate{Entry: executionID}
	case "reused":
		return uuid.Nil, outbox.ErrKeyReused
	case "overloaded":
		return uuid.Nil, &outbox.Overloaded{Message: "too much waits", RetryAfter: 3 * time.Second}
	}
	s.sent <- m
	return executionID, nil
}

// fired is what a trigger was fired with.
type fired struct {
	trigger string
	change  *trigger.Change
	key     *outbox.Idempotency
}

func (s *server) Fire(_ context.Context, t tenant.Trigger, c *trigger.Change, key *outbox.Idempotency) (uuid.UUID, error) {
	s.fired <- fired{t.Name, c, key}
	return executionID, nil
}

// Facts says that every slot is taken.
func (s *server) Facts(uuid.UUID, uuid.UUID) explain.Facts {
	return explain.Facts{Target: &tenant.Script{Version: 1}}
}

var executionID = uuid.MustParse("0192d1a4-7c1e-7b7e-9d2b-3f6a1c0e5b11")

// Invoke answers with the body, or fails as the path says.
func (s *server) Invoke(_ context.Context, _ tenant.Script, in api.Invocation) (api.InvokeResult, error) {
	s.invoked <- in
	r := api.InvokeResult{ExecutionID: executionID, Status: 201, Headers: []event.Header{{Name: "X-A", Value: "b"}}, Body: in.Body}
	if word, failing := strings.CutPrefix(in.Path, "/fail/"); failing {
		return r, fault.New(fault.Kind(word), fault.Script, "it failed")
	}
	if in.Path == "/defect" {
		return r, errors.New("password=hunter2 is in this error")
	}
	return r, nil
}

// Replay knows no dead letter; the outbox has tests of its own for what it does.
func (s *server) Replay(ctx context.Context, app, deadLetter, _ uuid.UUID, _ []byte) (uuid.UUID, error) {
	if _, err := postgres.NewDeadLetterStore(s.pool).Get(ctx, app, deadLetter); err != nil {
		return uuid.Nil, err
	}
	return executionID, nil
}

// reply is an answer, read whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request with the owner's token; headers are pairs and win over it. in is sent as JSON, text as it is.
func (s *server) do(t *testing.T, method, path string, in any, headers ...string) reply {
	t.Helper()
	var b io.Reader
	switch in := in.(type) {
	case nil:
	case string:
		b = strings.NewReader(in)
	default:
		encoded, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, b)
	if err != nil {
		t.Fatal(err)
	}
	if s.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		}
	}
	response, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, body}
}

// want sends a request, fails the test unless the status is the one expected, and decodes the answer into out.
func (s *server) want(t *testing.T, status int, method, path string, in, out any) {
	t.Helper()
	r := s.do(t, method, path, in)
	if r.status != status {
		t.Fatalf("%s %s: %d %s; want %d", method, path, r.status, r.body, status)
	}
	if out != nil {
		if err := json.Unmarshal(r.body, out); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, r.body)
		}
	}
}

// problem sends a request and returns the problem that it is answered with.
func (s *server) problem(t *testing.T, status int, method, path string, in any, headers ...string) api.Problem {
	t.Helper()
	r := s.do(t, method, path, in, headers...)
	var p api.Problem
	if err := json.Unmarshal(r.body, &p); err != nil || r.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s %s: %s %s is not a problem", method, path, r.header.Get("Content-Type"), r.body)
	}
	if r.status != status || p.Status != status || !strings.HasPrefix(p.Type, "urn:picloud:problem:") || p.Title == "" {
		t.Fatalf("%s %s: %d %s; want %d", method, path, r.status, r.body, status)
	}
	return p
}

type object = map[string]any

// app makes an app that claims a host of its own and has a script behind a route.
func (s *server) app(t *testing.T, slug string) (script api.Script, route api.Route) {
	t.Helper()
	s.want(t, 201, "POST", "/api/v1/apps", object{"slug": slug}, nil)
	s.want(t, 201, "POST", "/api/v1/apps/"+slug+"/domains", object{"host": slug + ".example.com"}, nil)
	var made api.Deployed
	s.want(t, 200, "POST", "/api/v1/apps/"+slug+"/deploy", object{
		"script": "hello", "files": []object{{"name": "main.go", "content": "package main"}},
		"routes": []object{{"method": "get", "pattern": "/hello/{name}"}},
	}, &made)
	return made.Script, made.Routes[0]
}

// keyCatcher lets auth.Bootstrap make a key without an instance.
type keyCatcher struct{ auth.Key }

func (k *keyCatcher) CreateOwner(_ context.Context, key auth.Key) (bool, error) {
	k.Key = key
	return true, nil
}

func decode(t *testing.T, r reply, out any) {
	t.Helper()
	if err := json.Unmarshal(r.body, out); err != nil {
		t.Fatalf("%v in %d %s", err, r.status, r.body)
	}
}
