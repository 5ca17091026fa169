package sink_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/picloud/picloud/core/pluginhost"
	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/sink"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
	sdk "github.com/picloud/picloud/sdk/sink"
)

// The test binary is also the plugin.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child:plugin" {
		sdk.Serve(puppet{})
		return
	}
	goleak.VerifyTestMain(m)
}

// puppet is a sink whose items say what it does, and which refuses with its configuration.
type puppet struct{}

func (puppet) Info() sdk.Info {
	return sdk.Info{Name: "puppet", Version: "1", Secrets: []string{"key"}}
}

func (puppet) Open(s sdk.Setting) (sdk.Instance, error) {
	if strings.Contains(string(s.Config), "wrong") {
		return nil, fault.New(fault.Invalid, fault.Script, "it is wrong: %s", s.Config)
	}
	reach := "guarded"
	if s.Guard == nil {
		reach = "free"
	}
	return &told{config: string(s.Config), reach: reach}, nil
}

type told struct{ config, reach string }

func (*told) Bounds() (int, int) { return 1, 8 }
func (*told) Close()             {}

func (p *told) Deliver(items []*sdk.Item) {
	for _, i := range items {
		switch string(i.Data) {
		case "exit":
			os.Exit(3)
		case "wait":
			<-i.Context().Done()
			i.Answer(0, fault.New(fault.ScriptError, fault.Script, "it was told to stop"))
		case "config":
			i.Log("info", "with %s", p.config)
			i.Answer(7, fault.New(fault.ScriptError, fault.Script, "%s %s", p.reach, p.config))
		case "unavailable": // as if nothing had been tried
			i.Answer(0, fault.New(fault.Unavailable, fault.Script, "cannot be reached"))
		default:
			i.Answer(200, nil)
		}
	}
}

// safe keeps the secrets of one app.
type safe struct {
	mu     sync.Mutex
	app    uuid.UUID
	values map[string]string
}

func (s *safe) Get(_ context.Context, app uuid.UUID, name string) (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.values[name]
	if !ok || app != s.app {
		return nil, tenant.ErrNotFound
	}
	return json.Marshal(value)
}

func (s *safe) set(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[name] = value
}

// bench is a manager with real processes, an app with secrets, and a sink of it.
type bench struct {
	*sink.Manager
	*safe
	to   *tenant.Sink
	mu   sync.Mutex
	pids []*pluginhost.Process
}

func setup(t *testing.T, with ...func(*sink.Config)) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "pic") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host, err := pluginhost.New(pluginhost.Config{Dir: dir, Command: []string{exe, "child:plugin"}, Log: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	app := uuid.New()
	b := &bench{safe: &safe{app: app, values: map[string]string{"KEY": "hunter2-and-more"}}}
	b.to = &tenant.Sink{
		ID: uuid.New(), App: app, Name: "s", Kind: "puppet", Version: 1, Config: json.RawMessage(`{"key": {"secret": "KEY"}, "list": [{"secret": "KEY"}]}`),
	}
	cfg := sink.Config{
		Secrets: b.safe, Log: hclog.NewNullLogger(), Kinds: []string{"puppet"}, Idle: time.Hour,
		Launch: func(ctx context.Context, name string) (sink.Process, error) {
			p, err := host.Launch(ctx, name)
			if err != nil {
				return nil, err
			}
			b.mu.Lock()
			b.pids = append(b.pids, p)
			b.mu.Unlock()
			return p, nil
		},
	}
	for _, w := range with {
		w(&cfg)
	}
	b.Manager = sink.New(cfg)
	t.Cleanup(func() { b.Close(); host.Close() })
	return b
}

func (b *bench) launched() []*pluginhost.Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*pluginhost.Process(nil), b.pids...)
}

// deliver sends an item and hides what a delivery has learnt.
func (b *bench) deliver(t *testing.T, data string, within time.Duration) sdk.Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	veil := &secret.Veil{}
	a := b.Deliver(ctx, b.app, b.to, &sdk.Delivery{EventID: "e", Data: []byte(data)}, veil)
	a.Fault = veil.Fault(a.Fault)
	for i := range a.Logs {
		a.Logs[i].Message = veil.Text(a.Logs[i].Message)
	}
	return a
}

const long = time.Minute

// Many deliveries share one process, and secrets are filled in and masked.
func TestDeliver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if len(b.Running()) > 0 {
		t.Error("a process runs that nobody needs")
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if a := b.deliver(t, "", long); a.Fault != nil || a.Status != 200 {
				t.Errorf("%+v", a)
			}
		})
	}
	all.Wait()
	if n := len(b.launched()); n != 1 || b.Running()[0] != "puppet" {
		t.Errorf("%d processes", n)
	}
	a := b.deliver(t, "config", long)
	if want := `guarded {"key":"` + secret.Mask + `","list":["` + secret.Mask + `"]}`; a.Fault == nil || a.Fault.Message != want || a.Status != 7 {
		t.Errorf("%+v", a.Fault)
	}
	if len(a.Logs) != 1 || strings.Contains(a.Logs[0].Message, "hunter2") {
		t.Errorf("%+v", a.Logs)
	}
	if a := b.deliver(t, "unavailable", long); a.Fault == nil || a.Fault.Kind == fault.Unavailable {
		t.Errorf("an attempt that was made does not count: %+v", a.Fault)
	}
	limit := 50 * time.Millisecond
	a = b.deliver(t, "wait", limit)
	for a.Fault != nil && a.Fault.Kind == fault.Unavailable { // its time was over before it was sent
		limit *= 2
		a = b.deliver(t, "wait", limit)
	}
	if a.Fault == nil || a.Fault.Kind != fault.Deadline {
		t.Errorf("%+v", a.Fault)
	}
}

// A configuration that changes, or a secret in it, takes effect with the next delivery; and a secret that is gone is missed.
func TestConfigurationChanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	shows := func(want string) {
		t.Helper()
		veil := &secret.Veil{}
		ctx, cancel := context.WithTimeout(t.Context(), long)
		defer cancel()
		if a := b.Deliver(ctx, b.app, b.to, &sdk.Delivery{Data: []byte("config")}, veil); a.Fault == nil || !strings.Contains(a.Fault.Message, want) {
			t.Errorf("%+v, not %s", a.Fault, want)
		}
	}
	shows(`"hunter2-and-more"`)
	b.set("KEY", "another")
	shows(`"another"`)
	changed := *b.to
	changed.Config, changed.Version = json.RawMessage(`{"key": "plain"}`), 2
	b.to = &changed
	shows(`{"key": "plain"}`)
	changed.Config = json.RawMessage(`{"key": {"secret": "NONE"}}`)
	if a := b.deliver(t, "", long); a.Fault == nil || a.Fault.Kind != fault.NotFound || a.Fault.Fatal || !strings.Contains(a.Fault.Message, `no secret "NONE"`) {
		t.Errorf("%+v", a.Fault)
	}
	changed.Config = json.RawMessage(`{"wrong": 1}`)
	if a := b.deliver(t, "", long); a.Fault == nil || a.Fault.Kind != fault.Invalid {
		t.Errorf("%+v", a.Fault)
	}
	changed.Config = json.RawMessage(`{}`)
	b.Keep(tenant.NewSnapshot(1, nil)) // and its instance is dropped
	if a := b.deliver(t, "", long); a.Fault != nil {
		t.Errorf("%+v", a.Fault)
	}
	if n := len(b.launched()); n != 1 {
		t.Errorf("%d processes", n)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for config, field := range map[string]string{
		`{}`: "", `{"key": {"secret": "KEY"}}`: "", `{"key": [{"secret": "KEY"}]}`: "", `{"key": "plain"}`: "config.key", `{"key": [{"secret": "KEY"}, "x"]}`: "config.key",
		`{"key": {"secret": "NONE"}}`: "config", `{"wrong": {"secret": "KEY"}}`: "config", `[]`: "config", `null`: "config", `{`: "config",
		`{"a": "` + strings.Repeat("x", tenant.MaxSinkConfig-9) + `"}`: "", `{"a": "` + strings.Repeat("x", tenant.MaxSinkConfig-8) + `"}`: "config",
	} {
		err := b.Check(t.Context(), b.app, "puppet", json.RawMessage(config))
		var invalid *tenant.Invalid
		switch {
		case field == "" && err != nil, field != "" && (!errors.As(err, &invalid) || invalid.Field != field):
			t.Errorf("%.60s: %v, not %s", config, err, field)
		case err != nil && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%.60s: the secret is told: %v", config, err)
		}
	}
	var invalid *tenant.Invalid
	if err := b.Check(t.Context(), b.app, "smoke", json.RawMessage(`{}`)); !errors.As(err, &invalid) || invalid.Field != "kind" {
		t.Error(err)
	}
	if err := b.Check(t.Context(), uuid.New(), "puppet", json.RawMessage(`{"a": {"secret": "KEY"}}`)); !errors.As(err, &invalid) {
		t.Errorf("another app's secret: %v", err)
	}
}

// A process that dies costs those in it an attempt; the next has another, and one that dies again and again is waited for.
func TestProcessDies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	waiting := make(chan sdk.Answer, 1)
	go func() { waiting <- b.deliver(t, "wait", long) }()
	if a := b.deliver(t, "exit", long); a.Fault == nil || a.Fault.Kind != fault.Internal || a.Fault.Origin != fault.Plugin {
		t.Errorf("%+v", a.Fault)
	}
	if a := <-waiting; a.Fault == nil {
		t.Error("it is said to be done")
	}
	if a := b.deliver(t, "", long); a.Fault != nil {
		t.Errorf("%+v", a.Fault)
	}
	for range 4 {
		b.deliver(t, "exit", long)
	}
	refused := false
	for range 100 {
		if a := b.deliver(t, "exit", long); a.Fault.Kind == fault.Unavailable && a.Fault.RetryAfter > 0 {
			refused = true
		}
	}
	if n := len(b.launched()); !refused || n > 20 {
		t.Errorf("%d processes were started one after the other", n)
	}
}

// A process that nobody needs ends, and is there again when somebody does.
func TestIdle(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *sink.Config) { c.Idle = 20 * time.Millisecond })
	for n := 1; n <= 2; n++ {
		if a := b.deliver(t, "", long); a.Fault != nil {
			t.Fatalf("%+v", a.Fault)
		}
		p := b.launched()[n-1]
		<-p.Done()
		if p.Err() != nil {
			t.Error(p.Err())
		}
	}
}

// The server's own mail is delivered by its own configuration, which may lead anywhere; without one it waits.
func TestEmail(t *testing.T) {
	t.Parallel()
	lane := tenant.NewSnapshot(1, []*tenant.App{{ID: uuid.New(), Slug: "a"}})
	for app := range lane.Apps() {
		b := setup(t, func(c *sink.Config) { c.Email = json.RawMessage(`{"host": "mail"}`) })
		b.to = lane.SinkOf(app.ID, tenant.EmailSink)
		b.to.Kind = "puppet"
		if a := b.deliver(t, "config", long); a.Fault == nil || a.Fault.Message != `free {"host": "mail"}` {
			t.Errorf("%+v", a.Fault)
		}
		without := setup(t)
		without.to = b.to
		if a := without.deliver(t, "", long); a.Fault == nil || a.Fault.Kind != fault.Unavailable || a.Fault.RetryAfter != time.Minute {
			t.Errorf("%+v", a.Fault)
		}
		if lane.SinkOf(uuid.New(), tenant.EmailSink) != nil {
			t.Error("an app that there is not may send mail")
		}
	}
}

// After Close nothing starts.
func TestClose(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.deliver(t, "", long)
	b.Close()
	if a := b.deliver(t, "", long); a.Fault == nil || a.Fault.Kind != fault.Unavailable {
		t.Errorf("%+v", a.Fault)
	}
	<-b.launched()[0].Done()
}

// BenchmarkDeliver is an item that goes to a sink and is answered, with 64 under way.
func BenchmarkDeliver(b *testing.B) {
	dir, err := os.MkdirTemp("", "pic")
	if err != nil {
		b.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	host, err := pluginhost.New(pluginhost.Config{Dir: dir, Command: []string{exe, "child:plugin"}, Log: hclog.NewNullLogger()})
	if err != nil {
		b.Fatal(err)
	}
	defer host.Close()
	m := sink.New(sink.Config{
		Log: hclog.NewNullLogger(), Kinds: []string{"puppet"}, Idle: time.Hour,
		Launch: func(ctx context.Context, name string) (sink.Process, error) { return host.Launch(ctx, name) },
	})
	defer m.Close()
	to := &tenant.Sink{ID: uuid.New(), Kind: "puppet", Config: json.RawMessage(`{}`)}
	data := make([]byte, 1<<10)
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ctx, cancel := context.WithTimeout(b.Context(), long)
			if a := m.Deliver(ctx, uuid.Nil, to, &sdk.Delivery{Data: data}, &secret.Veil{}); a.Fault != nil {
				b.Error(a.Fault)
			}
			cancel()
		}
	})
}
