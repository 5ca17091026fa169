package pluginhost_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/picloud/picloud/core/pluginhost"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// The test binary is also the plugin and, for the parent-death test, the host.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "child:plugin":
			servePlugin(os.Args[2])
			return
		case "child:host":
			runHost(os.Args[2])
			return
		}
	}
	goleak.VerifyTestMain(m)
}

func servePlugin(name string) {
	switch name {
	case "engine/puppet":
		engine.Serve(enginetest.Puppet{})
	case "engine/mute": // never says its handshake
		select {}
	case "engine/junk":
		os.Stdout.WriteString("good morning\n")
	case "engine/environ":
		engine.Serve(environ{})
	}
}

// environ answers with what a plugin can see of its environment.
type environ struct{ enginetest.Puppet }

func (environ) Invoke(_ context.Context, _ *engine.Invocation, out engine.Reply) error {
	if err := out.Head(engine.Head{Status: 200}); err != nil {
		return err
	}
	_, err := out.Write([]byte(strings.Join(os.Environ(), "\n")))
	return err
}

func newHost(t *testing.T, log hclog.Logger) *pluginhost.Host {
	t.Helper()
	dir, err := os.MkdirTemp("", "pic") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h, err := pluginhost.New(pluginhost.Config{Dir: dir, Command: []string{exe, "child:plugin"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.Close()
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket folder is still there: %v", err)
		}
	})
	return h
}

func launch(t *testing.T, h *pluginhost.Host, name string) *pluginhost.Process {
	t.Helper()
	p, err := h.Launch(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// answer collects an answer in memory.
type answer struct {
	engine.Head
	body bytes.Buffer
	hold chan struct{} // Write waits for it
}

func (a *answer) begin(h engine.Head) { a.Head = h }

type sink struct{ *answer }

func (s sink) Head(h engine.Head) error { s.begin(h); return nil }
func (s sink) Write(p []byte) (int, error) {
	if s.hold != nil {
		<-s.hold
	}
	return s.body.Write(p)
}

func invoke(ctx context.Context, p *pluginhost.Process, body string) (*answer, error) {
	env, err := (&event.Envelope{ID: "e"}).Marshal()
	if err != nil {
		return nil, err
	}
	a := &answer{}
	err = p.Engine().Invoke(ctx, &engine.Request{
		Bundle: "b", ExecutionID: "x", Attempt: 1, Envelope: env, Body: []byte(body),
	}, sink{a})
	return a, err
}

func kindOf(err error) fault.Kind { return fault.From(err).Kind }

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		if ok() {
			return
		}
		<-tick.C
	}
	t.Fatal("never: " + what)
}

func TestLaunchAndKill(t *testing.T) {
	t.Parallel()
	h := newHost(t, hclog.NewNullLogger())
	p := launch(t, h, "engine/puppet")
	if a, err := invoke(t.Context(), p, "echo hello"); err != nil || a.body.String() != "hello" || a.Status != 200 {
		t.Fatalf("%q, %v", a.body.String(), err)
	}
	p.Kill()
	<-p.Done()
	eventually(t, "the process is gone", func() bool { return gone(p.Pid()) })
	if _, err := invoke(t.Context(), p, "echo"); kindOf(err) != fault.Unavailable {
		t.Fatal(err)
	}
}

func TestEnvironmentIsEmpty(t *testing.T) {
	t.Setenv("MY_SECRET", "hunter2")
	h := newHost(t, hclog.NewNullLogger())
	a, err := invoke(t.Context(), launch(t, h, "engine/environ"), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(a.body.String(), "\n") {
		name, _, _ := strings.Cut(line, "=")
		if !strings.HasPrefix(name, "PLUGIN_") && !strings.HasPrefix(name, "PICLOUD_PLUGIN") && name != "GOMAXPROCS" {
			t.Errorf("a plugin sees %s", name)
		}
	}
}

// A process that dies fails every run in it with a fault of its own kind, and nothing hangs.
func TestDeathIsNoticed(t *testing.T) {
	t.Parallel()
	h := newHost(t, hclog.NewNullLogger())
	p := launch(t, h, "engine/puppet")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := invoke(t.Context(), p, "wait"); kindOf(err) != fault.EngineLost {
				t.Error(err)
			}
		})
	}
	all.Go(func() {
		if _, err := invoke(t.Context(), p, "exit"); kindOf(err) != fault.EngineLost {
			t.Error(err)
		}
	})
	all.Wait()
	<-p.Done()
}

func TestStarts(t *testing.T) {
	t.Parallel()
	h := newHost(t, hclog.NewNullLogger())
	for _, name := range []string{"engine/mute", "engine/junk", "engine/none"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := h.Launch(t.Context(), name); err == nil {
				t.Fatal("it was started")
			}
		})
	}
	// One that hangs holds nobody else up.
	if _, err := invoke(t.Context(), launch(t, h, "engine/puppet"), "echo"); err != nil {
		t.Fatal(err)
	}
}

// A run that ignores its end costs its process.
func TestStuckRunsAreKilled(t *testing.T) {
	t.Parallel()
	h := newHost(t, hclog.NewNullLogger())
	p := launch(t, h, "engine/puppet")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := invoke(ctx, p, "hang"); kindOf(err) != fault.Unavailable && kindOf(err) != fault.Deadline {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := invoke(ctx, p, "hang"); kindOf(err) != fault.Deadline {
		t.Fatal(err)
	}
	<-p.Done()
	eventually(t, "the process is gone", func() bool { return gone(p.Pid()) })
}

func TestOutputIsLimited(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var out bytes.Buffer
	log := hclog.New(&hclog.LoggerOptions{Output: &lockedWriter{&mu, &out}})
	h := newHost(t, log)
	if _, err := invoke(t.Context(), launch(t, h, "engine/puppet"), "stderr 5000"); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(out.String(), "\n"); n > 200 {
		t.Fatalf("%d lines reached the host's log", n)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// runHost launches a plugin, says its pid, and waits to be killed.
func runHost(dir string) {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	h, err := pluginhost.New(pluginhost.Config{Dir: dir, Command: []string{exe, "child:plugin"}, Log: hclog.NewNullLogger()})
	if err != nil {
		panic(err)
	}
	p, err := h.Launch(context.Background(), "engine/puppet")
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString(strconv.Itoa(p.Pid()) + "\n")
	select {}
}

func TestNoPluginOutlivesItsHost(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "pic")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.StartProcess(exe, []string{exe, "child:host", dir}, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{nil, w, os.Stderr},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	line := make([]byte, 32)
	n, err := r.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatal(err)
	}
	if gone(pid) {
		t.Fatal("the plugin is not there")
	}
	if err := host.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Wait(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	eventually(t, "the plugin is gone", func() bool { return zombieOrGone(pid) })
}

// zombieOrGone reports whether a process runs no more; an orphan stays a zombie until init collects it.
func zombieOrGone(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z")
}
