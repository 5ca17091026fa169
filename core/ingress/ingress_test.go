package ingress

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/semaphore"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/dispatcher"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

func TestMain(m *testing.M) { coretest.Main(m) }

// line stands in for everything behind the ingress: it takes an entry and answers it.
type line struct {
	inbox  *inbox.Inbox
	refuse error
	reply  func(e *outbox.Entry, r *inbox.Reply)
	taken  chan *outbox.Entry
	detach func(e *outbox.Entry) (bool, error)
	// What is stored: by entry, and how often it is looked at.
	mu      sync.Mutex
	results map[uuid.UUID]*outbox.Result
	looks   int
	app     uuid.UUID
	free    bool // the key of a duplicate may be used again
}

func (l *line) Detach(_ context.Context, e *outbox.Entry) (bool, error) { return l.detach(e) }

func (l *line) Get(_ context.Context, app, id uuid.UUID) (*outbox.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks++
	res, ok := l.results[id]
	if !ok || app != l.app {
		return nil, tenant.ErrNotFound
	}
	return res, nil
}

func (l *line) Free(context.Context, uuid.UUID, *outbox.Idempotency, uuid.UUID) (bool, error) {
	if l.free {
		l.refuse = nil
	}
	return l.free, nil
}

// store says how far an entry has come.
func (l *line) store(id uuid.UUID, res *outbox.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.results[id] = res
}

func (l *line) Call(_ context.Context, e *outbox.Entry) error {
	if l.refuse != nil {
		return l.refuse
	}
	l.taken <- e
	go func() {
		r, err := l.inbox.Reply(context.Background(), e.ReplyTo)
		if err == nil && l.reply != nil {
			l.reply(e, r)
		}
	}()
	return nil
}

func (l *line) Append(_ context.Context, e *outbox.Entry) error {
	if l.refuse == nil {
		l.taken <- e
	}
	return l.refuse
}

const maxBody = 1000

func setup(t *testing.T, reply func(*outbox.Entry, *inbox.Reply)) (*line, string) {
	t.Helper()
	l, url, _ := setupIngress(t, reply)
	return l, url
}

func setupIngress(t *testing.T, reply func(*outbox.Entry, *inbox.Reply)) (*line, string, *Ingress) {
	t.Helper()
	app := &tenant.App{ID: uuid.New(), Slug: "a", Domains: []string{"127.0.0.1"}}
	script := tenant.Script{
		ID: uuid.New(), App: app.ID, Name: "s", Kind: tenant.KindEndpoint, Engine: "yaegi", Version: 1, Hash: "h",
		Timeout: 10 * time.Second, MaxAttempts: 5,
	}
	app.Scripts = []tenant.Script{script}
	route := func(method, pattern, mode string) {
		app.Routes = append(app.Routes, tenant.Route{
			ID: uuid.New(), App: app.ID, Script: script.ID, Method: method, Pattern: pattern, Mode: mode,
		})
	}
	route("ANY", "/sync/{id}/{rest...}", tenant.ModeSync)
	route("POST", "/async", tenant.ModeAsync)
	route("ANY", "/wait", tenant.ModeSync)
	app.Routes[len(app.Routes)-1].Wait = 20 * time.Millisecond
	route("POST", "/orders/{id}", tenant.ModeAsync)
	app.Triggers = []tenant.Trigger{{
		ID: uuid.New(), App: app.ID, Name: "orders", Kind: tenant.TriggerHTTP, Script: script.ID,
		Route: app.Routes[len(app.Routes)-1].ID, Enabled: true,
		Policy: tenant.Policy{OrderingKey: "order {params.id}", MaxAttempts: 9},
	}}
	snapshot := tenant.NewSnapshot(1, []*tenant.App{app})
	in := &inbox.Inbox{}
	l := &line{
		inbox: in, reply: reply, taken: make(chan *outbox.Entry, 10), app: app.ID, results: map[uuid.UUID]*outbox.Result{},
	}
	handler := New(Config{
		Snapshot: func() *tenant.Snapshot { return snapshot }, Dispatcher: l, Inbox: in, Results: l, Secret: []byte("secret"),
		MaxBody: maxBody,
		Log:     hclog.NewNullLogger(),
	})
	server := httptest.NewServer(handler)
	t.Cleanup(func() { server.Close(); http.DefaultClient.CloseIdleConnections() })
	return l, server.URL, handler
}

func send(t *testing.T, method, url, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

func answer(status int, body string, headers ...event.Header) func(*outbox.Entry, *inbox.Reply) {
	return func(_ *outbox.Entry, r *inbox.Reply) {
		_ = r.Head(engine.Head{Status: status, Headers: headers})
		if body != "" {
			_, _ = r.Write([]byte(body))
		}
		_ = r.End(nil)
	}
}

func fail(f *fault.Fault) func(*outbox.Entry, *inbox.Reply) {
	return func(_ *outbox.Entry, r *inbox.Reply) { _ = r.End(f) }
}

func TestAnswerOfAScript(t *testing.T) {
	t.Parallel()
	l, url := setup(t, answer(201, "hello", event.Header{Name: "X-A", Value: "1"}, event.Header{Name: "X-A", Value: "2"}))
	res, body := send(t, "PUT", url+"/sync/7/a/b?q=1", "body")
	if res.StatusCode != 201 || body != "hello" || len(res.Header.Values("X-A")) != 2 || res.ContentLength != 5 {
		t.Fatalf("%d %q %v", res.StatusCode, body, res.Header)
	}
	e := <-l.taken
	if res.Header.Get(ExecutionHeader) != e.ID.String() || string(e.Payload) != "body" || !e.Sync() {
		t.Fatalf("entry %+v", e)
	}
	env, err := event.Unmarshal(e.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	h := env.HTTP
	if h.Method != "PUT" || h.Path != "/sync/7/a/b" || h.Query != "q=1" || h.Rest != "a/b" || len(h.Params) != 1 ||
		h.Params[0] != (event.Param{Name: "id", Value: "7"}) {
		t.Fatalf("request %+v", h)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reply  func(*outbox.Entry, *inbox.Reply)
		refuse error
		method string
		path   string
		body   string
		status int
		kind   string
		says   string
	}{
		"no route":         {nil, nil, "GET", "/other", "", 404, "no_route", "/other"},
		"method":           {nil, nil, "GET", "/async", "", 405, "method_not_allowed", "POST"},
		"body":             {nil, nil, "POST", "/sync/1/x", strings.Repeat("x", maxBody+1), 413, "body_too_large", "1000"},
		"busy":             {nil, dispatcher.ErrBusy, "GET", "/sync/1/x", "", 503, "busy", "slot"},
		"fenced":           {nil, outbox.ErrFenced, "POST", "/async", "", 503, "unavailable", "try again"},
		"paused":           {nil, dispatcher.ErrPaused, "GET", "/sync/1/x", "", 503, "paused", "paused"},
		"overloaded":       {nil, &outbox.Overloaded{Message: "too much waits"}, "POST", "/async", "", 429, "overloaded", "too much"},
		"key reused":       {nil, outbox.ErrKeyReused, "POST", "/async", "", 422, "idempotency_key_reused", "another request"},
		"long key":         {nil, nil, "POST", "/orders/" + strings.Repeat("x", 300), "", 422, "invalid_key", "255"},
		"rejected":         {nil, &outbox.Rejected{Err: errors.New("22021")}, "POST", "/async", "", 400, "bad_request", "stored"},
		"script error":     {fail(fault.New(fault.ScriptError, fault.Script, "the secret")), nil, "GET", "/sync/1/x", "", 502, "script_error", "record of the execution"},
		"deadline":         {fail(fault.New(fault.Deadline, fault.Script, "did not finish within 10s")), nil, "GET", "/sync/1/x", "", 504, "deadline", "10s"},
		"engine lost":      {fail(fault.New(fault.EngineLost, fault.Plugin, "the engine process ended")), nil, "GET", "/sync/1/x", "", 502, "engine_lost", "ended"},
		"not compiled":     {fail(fault.New(fault.Compile, fault.Script, "m.go:1:1: no")), nil, "GET", "/sync/1/x", "", 422, "compile_error", "m.go"},
		"limit":            {fail(fault.New(fault.Limit, fault.Script, "too much")), nil, "GET", "/sync/1/x", "", 507, "limit_exceeded", "too much"},
		"bad status":       {answer(99, ""), nil, "GET", "/sync/1/x", "", 502, "invalid_response", "99"},
		"header injection": {answer(200, "", event.Header{Name: "X", Value: "a\r\nSet-Cookie: b"}), nil, "GET", "/sync/1/x", "", 502, "invalid_response", "X"},
		"hop by hop":       {answer(200, "", event.Header{Name: "transfer-encoding", Value: "chunked"}), nil, "GET", "/sync/1/x", "", 502, "invalid_response", "Transfer-Encoding"},
		"platform header":  {answer(200, "", event.Header{Name: "picloud-execution-id", Value: "fake"}), nil, "GET", "/sync/1/x", "", 502, "invalid_response", "platform"},
		"wrong length":     {answer(200, "abc", event.Header{Name: "Content-Length", Value: "1"}), nil, "GET", "/sync/1/x", "", 502, "invalid_response", "Content-Length"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, url := setup(t, c.reply)
			l.refuse = c.refuse
			res, body := send(t, c.method, url+c.path, c.body)
			var p struct {
				Type, Detail string
				Status       int
				ID           string `json:"execution_id"`
			}
			if err := json.Unmarshal([]byte(body), &p); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if res.StatusCode != c.status || p.Status != c.status || p.Type != "urn:picloud:problem:"+c.kind ||
				!strings.Contains(p.Detail, c.says) || strings.Contains(body, "secret") ||
				res.Header.Get("Content-Type") != "application/problem+json" {
				t.Fatalf("%d %s", res.StatusCode, body)
			}
			if (c.status == 503 || c.status == 429) != (res.Header.Get("Retry-After") != "") {
				t.Errorf("Retry-After is %q", res.Header.Get("Retry-After"))
			}
			if c.reply != nil && p.ID == "" {
				t.Error("the execution is not named")
			}
		})
	}
}

func TestUnknownHost(t *testing.T) {
	t.Parallel()
	_, url := setup(t, nil)
	r, _ := http.NewRequestWithContext(t.Context(), "GET", url+"/sync/1/x", nil)
	r.Host = "other.example"
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 404 {
		t.Fatal(res.Status)
	}
}

func TestAsync(t *testing.T) {
	t.Parallel()
	l, url := setup(t, nil)
	res, body := send(t, "POST", url+"/async", "x")
	e := <-l.taken
	if res.StatusCode != 202 || !strings.Contains(body, e.ID.String()) || e.Sync() || e.MaxAttempts != 5 {
		t.Fatalf("%d %s %+v", res.StatusCode, body, e)
	}
}

// An answer in parts reaches the caller as it comes; one that is cut short does not look whole.
func TestStream(t *testing.T) {
	t.Parallel()
	more := make(chan *fault.Fault)
	_, url := setup(t, func(_ *outbox.Entry, r *inbox.Reply) {
		_ = r.Head(engine.Head{Status: 200})
		_, _ = r.Write([]byte("one "))
		_, _ = r.Write([]byte("two "))
		_ = r.End(<-more)
	})
	for _, cut := range []*fault.Fault{nil, fault.New(fault.EngineLost, fault.Plugin, "gone")} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", url+"/sync/1/x", nil)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 8)
		if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "one two " {
			t.Fatalf("%q %v", first, err)
		}
		more <- cut
		rest, err := io.ReadAll(res.Body)
		if (err != nil) != (cut != nil) || len(rest) > 0 {
			t.Fatalf("%q %v", rest, err)
		}
		res.Body.Close()
	}
}

// A caller that leaves ends its run.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	left := make(chan struct{})
	begun := make(chan struct{})
	_, url := setup(t, func(_ *outbox.Entry, r *inbox.Reply) {
		r.OnGone(func() { close(left) })
		close(begun)
	})
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", url+"/sync/1/x", nil)
	done := make(chan error, 1)
	go func() {
		res, err := http.DefaultClient.Do(r)
		if err == nil {
			res.Body.Close()
		}
		done <- err
	}()
	<-begun
	cancel()
	if err := <-done; err == nil {
		t.Fatal("an answer came")
	}
	<-left
}

func TestInvokerCollectsTheWholeAnswer(t *testing.T) {
	t.Parallel()
	in := &inbox.Inbox{}
	l := &line{inbox: in, taken: make(chan *outbox.Entry, 1), reply: func(_ *outbox.Entry, r *inbox.Reply) {
		_ = r.Head(engine.Head{Status: 200})
		for range 5 {
			_, _ = r.Write(bytes.Repeat([]byte("x"), 10))
		}
		_ = r.End(nil)
	}}
	script := &tenant.Script{ID: uuid.New(), App: uuid.New(), Timeout: time.Minute, MaxAttempts: 1}
	e, err := NewEntry(script, outbox.KindInvoke, &event.HTTP{Method: "POST"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := NewInvoker(l, in).Call(t.Context(), e)
	if err != nil || got.Status != 200 || len(got.Body) != 50 {
		t.Fatalf("%+v %v", got, err)
	}
	l.refuse = dispatcher.ErrBusy
	if _, err := NewInvoker(l, in).Call(t.Context(), e); fault.From(err).Kind != fault.Unavailable {
		t.Fatal(err)
	}
}

// A caller that announces a body and does not send it is told off, and its connection is closed.
func TestBodyThatDoesNotCome(t *testing.T) {
	t.Parallel()
	_, url, handler := setupIngress(t, answer(200, "ok"))
	handler.bodyPatience = 100 * time.Millisecond
	for _, head := range []string{"Content-Length: 900\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /sync/1/x HTTP/1.1\r\nHost: 127.0.0.1\r\n"+head); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 408 ") {
			t.Errorf("%.80q %v", got, err)
		}
	}
}

// Large bodies are held within bounds, until their requests are answered. Small ones are not counted.
func TestManyLargeBodies(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	l, url, handler := setupIngress(t, func(e *outbox.Entry, r *inbox.Reply) {
		if len(e.Payload) > bodyFirst {
			<-goOn
		}
		answer(200, "ok")(e, r)
	})
	large := strings.Repeat("x", 3*bodyFirst)
	handler.cfg.MaxBody, handler.held, handler.heldWait = int64(len(large)), semaphore.NewWeighted(2*bodyFirst), time.Minute
	first := make(chan int)
	go func() {
		res, err := http.Post(url+"/sync/1/a", "", strings.NewReader(large)) //nolint:noctx // it ends when the test lets it
		if err != nil {
			t.Error(err)
			close(first)
			return
		}
		_ = res.Body.Close()
		first <- res.StatusCode
	}()
	select {
	case <-l.taken:
	case status := <-first:
		t.Fatalf("the first: %d", status)
	}
	handler.heldWait = time.Millisecond
	if res, body := send(t, "POST", url+"/sync/1/a", large); res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" || !strings.Contains(body, "large bodies") {
		t.Errorf("a second one: %d %s", res.StatusCode, body)
	}
	handler.heldWait = time.Minute
	if res, body := send(t, "POST", url+"/sync/1/a", large[:bodyFirst]); res.StatusCode != 200 {
		t.Errorf("a small one: %d %s", res.StatusCode, body)
	}
	close(goOn)
	if status := <-first; status != 200 {
		t.Errorf("the first: %d", status)
	}
	for range 3 {
		coretest.Eventually(t, "all of it is given back, a moment after the answer", func() bool {
			is := handler.held.TryAcquire(2 * bodyFirst)
			if is {
				handler.held.Release(2 * bodyFirst)
			}
			return is
		})
		if res, body := send(t, "POST", url+"/sync/1/a", large); res.StatusCode != 200 {
			t.Errorf("afterwards: %d %s", res.StatusCode, body)
		}
	}
}
