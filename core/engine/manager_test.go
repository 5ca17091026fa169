package engine_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/picloud/picloud/core/engine"
	"github.com/picloud/picloud/core/pluginhost"
	"github.com/picloud/picloud/core/tenant"
	sdk "github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// The test binary is also the plugin.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child:plugin" {
		sdk.Serve(&strict{loaded: map[string]bool{}})
		return
	}
	goleak.VerifyTestMain(m)
}

// strict is a puppet that runs only what is loaded.
type strict struct {
	enginetest.Puppet
	mu     sync.Mutex
	loaded map[string]bool
}

func (s *strict) Load(ctx context.Context, b sdk.Bundle) (sdk.Loaded, error) {
	switch b.Script {
	case "deadly":
		os.Exit(5)
	case "slow":
		<-ctx.Done()
		return sdk.Loaded{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	loaded, err := s.Puppet.Load(ctx, b)
	s.loaded[b.Hash] = err == nil
	return loaded, err
}

func (s *strict) Unload(hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.loaded, hash)
}

func (s *strict) Invoke(ctx context.Context, inv *sdk.Invocation, out sdk.Reply) error {
	s.mu.Lock()
	ok := s.loaded[inv.Bundle]
	s.mu.Unlock()
	if !ok {
		return errors.New("the bundle is not loaded")
	}
	if rest, ok := strings.CutPrefix(string(inv.Body), "begin "); ok { // and says so
		if _, err := inv.Call(ctx, "test", "begun", nil); err != nil {
			return err
		}
		inv.Body = []byte(rest)
	}
	if string(inv.Body) == "crash" {
		go panic("no luck")
		<-ctx.Done()
	}
	if text, ok := strings.CutPrefix(string(inv.Body), "name "); ok { // the bundle that runs
		inv.Body = []byte("echo " + inv.Bundle + " " + text)
	}
	return s.Puppet.Invoke(ctx, inv, out)
}

// bundle is a manager with real processes, and what it was asked for.
type bundle struct {
	*engine.Manager
	mu        sync.Mutex
	processes []*pluginhost.Process
	clock     atomic.Int64 // since epoch
	loads     atomic.Int64
	fail      atomic.Bool
	gate      chan struct{} // closed when bundles of "gated" may be read; nil: they may
}

func (b *bundle) Bundle(_ context.Context, s *tenant.Script) (sdk.Bundle, error) {
	b.loads.Add(1)
	if b.gate != nil && s.Name == "gated" {
		<-b.gate
	}
	if b.fail.Load() {
		return sdk.Bundle{}, errors.New("no database today")
	}
	return sdk.Bundle{Hash: s.Hash, Script: s.Name}, nil
}

func (b *bundle) launched() []*pluginhost.Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*pluginhost.Process(nil), b.processes...)
}

// setup makes a manager without spares or limits, unless with says otherwise.
func setup(t testing.TB, with ...func(*engine.Config)) *bundle {
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
	b := &bundle{}
	b.clock.Store(int64(time.Since(epoch)))
	cfg := engine.Config{Bundles: b, Log: hclog.NewNullLogger(), Launch: func(ctx context.Context, name string) (engine.Process, error) {
		p, err := host.Launch(ctx, name)
		if err != nil {
			return nil, err
		}
		b.mu.Lock()
		b.processes = append(b.processes, p)
		b.mu.Unlock()
		return p, nil
	}}
	engine.SetNow(&cfg, b.now)
	engine.Share(&cfg, 2)
	for _, w := range with {
		w(&cfg)
	}
	b.Manager = engine.New(cfg)
	t.Cleanup(func() { b.Close(); host.Close() })
	return b
}

// epoch has a monotonic clock, which the times of a test are taken from.
var epoch = time.Now()

func (b *bundle) now() time.Time { return epoch.Add(time.Duration(b.clock.Load())) }

// pass moves the manager's clock and has it look at its processes.
func (b *bundle) pass(d time.Duration) {
	b.clock.Add(int64(d))
	b.Sweep()
}

func script(app uuid.UUID, hash string) *tenant.Script {
	return &tenant.Script{ID: uuid.New(), App: app, Name: hash, Engine: "puppet", Version: 1, Hash: hash}
}

type sink struct{ bytes.Buffer }

func (s *sink) Head(sdk.Head) error { return nil }

func (b *bundle) invoke(ctx context.Context, s *tenant.Script, lone bool, body string) (string, error) {
	env, err := (&event.Envelope{ID: "e"}).Marshal()
	if err != nil {
		return "", err
	}
	var out sink
	err = b.Invoke(ctx, s, lone, &sdk.Request{ExecutionID: uuid.NewString(), Attempt: 1, Envelope: env, Body: []byte(body)}, &out)
	return out.String(), err
}

// invokeAs is a lone run under an id.
func (b *bundle) invokeAs(ctx context.Context, id string, s *tenant.Script, body string) error {
	env, err := (&event.Envelope{ID: "e"}).Marshal()
	if err != nil {
		return err
	}
	return b.Invoke(ctx, s, true, &sdk.Request{ExecutionID: id, Attempt: 1, Envelope: env, Body: []byte(body)}, &sink{})
}

// invokeBegun is invoke for a run that lasts; it closes begun when the run has.
func (b *bundle) invokeBegun(ctx context.Context, s *tenant.Script, body string, begun chan struct{}) error {
	env, err := (&event.Envelope{ID: "e"}).Marshal()
	if err != nil {
		return err
	}
	return b.Invoke(ctx, s, false, &sdk.Request{
		ExecutionID: "x", Attempt: 1, Envelope: env, Body: []byte("begin " + body),
		Call: func(context.Context, string, string, []byte) ([]byte, error) { close(begun); return nil, nil },
	}, &sink{})
}

func (b *bundle) mustEcho(t *testing.T, s *tenant.Script) {
	t.Helper()
	if got, err := b.invoke(t.Context(), s, false, "echo hello"); err != nil || got != "hello" {
		t.Fatalf("%q %v", got, err)
	}
}

// An app has one process, however many call at one time, and shares it with no other app.
func TestOneProcessAnApp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, other := script(uuid.New(), "a"), script(uuid.New(), "a")
	second := script(one.App, "b")
	var all sync.WaitGroup
	for range 10 {
		for _, s := range []*tenant.Script{one, second, other} {
			all.Go(func() {
				if got, err := b.invoke(t.Context(), s, false, "echo hello"); err != nil || got != "hello" {
					t.Errorf("%q %v", got, err)
				}
			})
		}
	}
	all.Wait()
	if n := len(b.launched()); n != 2 {
		t.Errorf("%d processes for two apps", n)
	}
	if n := b.loads.Load(); n != 3 {
		t.Errorf("%d loads of three bundles", n)
	}
}

// A process that dies is replaced; one that dies again and again is not started at once.
func TestDeadProcessIsReplaced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := script(uuid.New(), "a")
	b.mustEcho(t, s)
	if _, err := b.invoke(t.Context(), s, false, "exit"); fault.From(err).Kind != fault.EngineLost {
		t.Fatal(err)
	}
	<-b.launched()[0].Done()
	b.mustEcho(t, s)
	refused := 0
	for range 20 {
		_, err := b.invoke(t.Context(), s, false, "exit")
		f := fault.From(err)
		if f.Kind == fault.Unavailable {
			if refused++; f.RetryAfter <= 0 {
				t.Error("it does not say when to try again")
			}
			continue
		}
		p := b.launched()
		<-p[len(p)-1].Done()
	}
	if refused == 0 {
		t.Error("it was started again without end")
	}
}

// A lone run has a process to itself, and its death is nobody else's.
func TestLoneRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := script(uuid.New(), "a")
	b.mustEcho(t, s)
	if _, err := b.invoke(t.Context(), s, true, "exit"); fault.From(err).Kind != fault.EngineLost {
		t.Fatal(err)
	}
	b.mustEcho(t, s)
	p := b.launched()
	if len(p) != 3 { // the app's, that of the lone run, and one of the script's own, since it is proven to end processes
		t.Fatalf("%d processes", len(p))
	}
	select {
	case <-p[0].Done():
		t.Fatal("the app's process died with the lone one")
	default:
	}
}

func TestLoadFailures(t *testing.T) {
	t.Parallel()
	b := setup(t)
	app := uuid.New()
	broken := script(app, "broken")
	if _, err := b.invoke(t.Context(), broken, false, "echo"); fault.From(err).Kind != fault.Compile {
		t.Fatal(err)
	}
	// A failure is not remembered: the next run tries again.
	s := script(app, "a")
	b.fail.Store(true)
	if _, err := b.invoke(t.Context(), s, false, "echo"); err == nil {
		t.Fatal("it ran without its source")
	}
	b.fail.Store(false)
	b.mustEcho(t, s)
}

func TestCheckLeavesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	loaded, err := b.Check(t.Context(), "puppet", []sdk.Bundle{{Script: "fine"}, {Script: "broken"}, {Script: "fine"}})
	if fault.From(err) == nil || fault.From(err).Kind != fault.Compile || len(loaded) != 2 || len(loaded[1].Diagnostics) != 1 {
		t.Fatalf("%+v %v", loaded, err)
	}
	<-b.launched()[0].Done()
	if _, err := b.Check(t.Context(), "puppet", []sdk.Bundle{{Script: "fine"}}); err != nil {
		t.Fatal(err)
	}
	<-b.launched()[1].Done()
	_, err = b.Check(t.Context(), "puppet", []sdk.Bundle{{Script: "deadly"}})
	if f := fault.From(err); f.Kind != fault.Compile || !strings.Contains(f.Message, "status 5") {
		t.Errorf("a source that ends its process: %v", err)
	}
}

// Whoever has no turn in time to have a source checked is told to try again.
func TestCheckWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	var checks sync.WaitGroup
	for range 2 {
		checks.Go(func() { _, _ = b.Check(ctx, "puppet", []sdk.Bundle{{Script: "slow"}}) })
	}
	for len(b.launched()) < 2 {
		runtime.Gosched()
	}
	over, end := context.WithCancel(t.Context())
	end()
	_, _, err := b.Try(over, "puppet", sdk.Bundle{Script: "fine"}, time.Minute, &sdk.Request{}, nil)
	if f := fault.From(err); f.Kind != fault.Unavailable || f.RetryAfter == 0 {
		t.Errorf("%v", err)
	}
	cancel()
	checks.Wait()
}

// What no app names any more goes.
func TestKeep(t *testing.T) {
	t.Parallel()
	b := setup(t)
	kept, gone := script(uuid.New(), "a"), script(uuid.New(), "a")
	b.mustEcho(t, kept)
	b.mustEcho(t, gone)
	next := *kept
	next.Hash = "b"
	b.Keep(tenant.NewSnapshot(1, []*tenant.App{{ID: kept.App, Slug: "k", Scripts: []tenant.Script{next}}}))
	<-b.launched()[1].Done()
	b.mustEcho(t, &next)
	before := b.loads.Load()
	b.mustEcho(t, kept) // an old release still runs, from the source
	if b.loads.Load() != before+1 {
		t.Error("the old bundle was not unloaded")
	}
}

// However often an app goes back and forth between two versions, no run finds its bundle gone.
func TestRunsOutliveTheirRelease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one := script(uuid.New(), "a")
	two := *one
	two.Hash = "b"
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for {
				for _, s := range []*tenant.Script{one, &two} {
					if got, err := b.invoke(context.Background(), s, false, "echo hello"); err != nil || got != "hello" {
						t.Errorf("%q %v", got, err)
						return
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 500 {
		s := *[]*tenant.Script{one, &two}[i%2]
		b.Keep(tenant.NewSnapshot(int64(i), []*tenant.App{{ID: one.App, Slug: "k", Scripts: []tenant.Script{s}}}))
		b.mustEcho(t, &s)
	}
	close(stop)
	all.Wait()
}
