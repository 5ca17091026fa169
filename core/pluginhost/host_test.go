package pluginhost_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"go.uber.org/goleak"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/pluginhost"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin"
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

// more are plugins that not every system has.
var more = map[string]func(){}

// servePlugin is a plugin process.
func servePlugin(name string) {
	name, _, _ = strings.Cut(name, " ") // the rest is for who looks for the process
	switch name {
	case "engine/puppet":
		engine.Serve(enginetest.Puppet{})
	case "engine/mute": // never says its handshake
		stay()
	case "engine/junk": // stays: how it ended would be said before what it said
		os.Stdout.WriteString("good morning\n")
		stay()
	case "engine/sad":
		os.Stderr.WriteString("there is no fuel\n")
		os.Exit(4)
	case "engine/surroundings":
		engine.Serve(surroundings{})
	case "engine/talker":
		engine.Serve(talker{os.Stderr})
	case "engine/parent":
		engine.Serve(parent{})
	case "engine/idle":
		stay()
	default:
		if serve := more[name]; serve != nil {
			serve()
		}
	}
}

// stay does nothing until the process is ended. A select without cases would be seen as a deadlock where nothing else runs.
func stay() { <-time.After(time.Hour) }

// surroundings answers with what a plugin can see of where it runs.
type surroundings struct{ enginetest.Puppet }

func (surroundings) Invoke(_ context.Context, _ *engine.Invocation, out engine.Reply) error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	if err := out.Head(engine.Head{Status: 200}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n%d\n%s", dir, len(input), strings.Join(os.Environ(), "\n"))
	return err
}

// talker talks on standard error in all the ways that a plugin can. The real one is what it had before it was served.
type talker struct{ real *os.File }

func (talker) Info() engine.Info { return engine.Info{Name: "talker"} }
func (talker) Load(context.Context, engine.Bundle) (engine.Loaded, error) {
	return engine.Loaded{}, nil
}
func (talker) Unload(string) {}

func (e talker) Invoke(_ context.Context, inv *engine.Invocation, out engine.Reply) error {
	lines, err := strconv.Atoi(string(inv.Body))
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "this is for nobody")
	fmt.Fprintln(os.Stderr, "one that print reaches")
	fmt.Fprintln(e.real, "one like a crash \xff")
	fmt.Fprintln(e.real, strings.Repeat("long ", 1<<20))
	hclog.New(&hclog.LoggerOptions{Output: e.real, JSONFormat: true}).Warn("one of a logger", "key", "value")
	for i := range lines {
		fmt.Fprintln(e.real, "line", i)
	}
	return out.Head(engine.Head{Status: 200})
}

// parent starts a process that outlives it if it may, and holds its pipes. The body says how, and by what to find it.
type parent struct{ enginetest.Puppet }

func (parent) Invoke(_ context.Context, inv *engine.Invocation, out engine.Reply) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	how, mark, _ := strings.Cut(string(inv.Body), " ")
	_, err = os.StartProcess(exe, []string{exe, "child:plugin", "engine/idle " + mark}, &os.ProcAttr{
		Files: []*os.File{nil, os.NewFile(1, "stdout"), os.NewFile(2, "stderr")},
		Sys:   &syscall.SysProcAttr{Setsid: how == "away"},
	})
	if err != nil {
		return err
	}
	return out.Head(engine.Head{Status: 200})
}

// find returns the process that was started with an argument, or 0.
func find(t *testing.T, argument string) int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for _, file := range all {
		line, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		if bytes.HasSuffix(line, []byte("\x00"+argument+"\x00")) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	return 0
}

// newHost makes a host. Its processes have all layers of isolation that there are, or those that are named: "" is none.
func newHost(t testing.TB, log hclog.Logger, layers ...string) *pluginhost.Host {
	t.Helper()
	dir, err := os.MkdirTemp("", "pic") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	h, err := pluginhost.New(pluginhost.Config{Dir: dir, Command: []string{program(), "child:plugin"}, Layers: layers, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.Close()
		h.Close()
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket folder is still there: %v", err)
		}
	})
	return h
}

// program is the test binary, by a path that every user can follow where there is one.
func program() string {
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		return "/proc/self/exe"
	}
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return exe
}

func launch(t testing.TB, h *pluginhost.Host, name string) *pluginhost.Process {
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

// hang has a run ignore its deadline, and returns what its caller is told. One whose time is over before the process has it is tried again
// with more.
func hang(t *testing.T, p *pluginhost.Process) (err error) {
	t.Helper()
	for limit := 20 * time.Millisecond; ; limit *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err = invoke(ctx, p, "hang")
		cancel()
		select {
		case <-p.Engine().Stuck():
			return err
		default:
		}
	}
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
	coretest.Eventually(t, "the process is gone", func() bool { return gone(p.Pid()) })
	if _, err := invoke(t.Context(), p, "echo"); kindOf(err) != fault.Unavailable {
		t.Fatal(err)
	}
}

// A plugin has nothing of what the host has.
func TestSurroundingsAreEmpty(t *testing.T) {
	t.Setenv("MY_SECRET", "hunter2")
	h := newHost(t, hclog.NewNullLogger())
	a, err := invoke(t.Context(), launch(t, h, "engine/surroundings"), "")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(a.body.String(), "\n")
	if lines[0] != "/" || lines[1] != "0" {
		t.Errorf("it is in %s and can read %s bytes", lines[0], lines[1])
	}
	for _, line := range lines[2:] {
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

// A start that fails says why.
func TestFailedStarts(t *testing.T) {
	t.Parallel()
	h := newHost(t, hclog.NewNullLogger())
	for name, says := range map[string]string{
		"engine/junk": "good morning", "engine/none": "exit status 0", "engine/sad": "exit status 4: there is no fuel",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := h.Launch(t.Context(), name)
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), says) {
				t.Errorf("%v", err)
			}
			if died := name != "engine/junk"; died && !errors.Is(err, pluginhost.ErrDied) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A start that hangs holds nobody else up, and ends when it is given up.
func TestStartIsGivenUp(t *testing.T) {
	t.Parallel()
	h := newHost(t, hclog.NewNullLogger())
	name := "engine/mute " + t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := h.Launch(ctx, name)
		ended <- err
	}()
	var pid int
	coretest.Eventually(t, "the process has begun", func() bool { pid = find(t, name); return pid != 0 })
	if _, err := invoke(t.Context(), launch(t, h, "engine/puppet"), "echo"); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	coretest.Eventually(t, "the process is gone", func() bool { return gone(pid) })
}

func TestCloseEndsStarts(t *testing.T) {
	t.Parallel()
	h := newHost(t, hclog.NewNullLogger())
	name := "engine/mute " + t.TempDir()
	ended := make(chan error, 1)
	go func() {
		_, err := h.Launch(t.Context(), name)
		ended <- err
	}()
	coretest.Eventually(t, "the process has begun", func() bool { return find(t, name) != 0 })
	h.Close()
	if err := <-ended; err == nil {
		t.Error("it was started")
	}
	if _, err := h.Launch(t.Context(), "engine/puppet"); !errors.Is(err, pluginhost.ErrClosed) {
		t.Error(err)
	}
}

// Why a process ended can be asked for.
func TestReasons(t *testing.T) {
	t.Parallel()
	h := newHost(t, hclog.NewNullLogger())
	for name, c := range map[string]struct {
		end  func(*pluginhost.Process)
		want error
		says string
	}{
		"kill":   {func(p *pluginhost.Process) { p.Kill(); p.Kill() }, nil, "signal 9"},
		"exit":   {func(p *pluginhost.Process) { _, _ = invoke(t.Context(), p, "exit") }, pluginhost.ErrDied, "it exited with status 3"},
		"signal": {func(p *pluginhost.Process) { _ = syscall.Kill(p.Pid(), syscall.SIGKILL) }, pluginhost.ErrDied, "memory runs out"},
		"stuck":  {func(p *pluginhost.Process) { _ = hang(t, p) }, pluginhost.ErrStuck, "did not end in time"},
	} {
		p := launch(t, h, "engine/puppet")
		if err := p.Err(); err != nil {
			t.Errorf("%s: %v before the end", name, err)
		}
		c.end(p)
		<-p.Done()
		if err := p.Err(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if how := p.Fate(); !strings.Contains(how, c.says) {
			t.Errorf("%s: %s", name, how)
		}
		coretest.Eventually(t, "the process is gone", func() bool { return gone(p.Pid()) })
	}
}

// What a plugin starts ends with it. What got away is not ours, but holds nobody up; with a namespace of its own nothing gets
// away.
func TestChildrenOfPlugins(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		layer, how string
		left       bool
	}{{"", "near", false}, {"", "away", true}, {"pid-namespace", "away", false}} {
		h := newHost(t, hclog.NewNullLogger(), c.layer)
		mark := t.TempDir()
		p := launch(t, h, "engine/parent")
		if _, err := invoke(t.Context(), p, c.how+" "+mark); err != nil {
			t.Fatal(err)
		}
		pid := find(t, "engine/idle "+mark)
		if pid == 0 {
			t.Fatal("there is no child")
		}
		h.Close()
		if c.left || !holds(p, c.layer) {
			if over(pid) {
				t.Error("a process that got away is gone: this tests nothing")
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		coretest.Eventually(t, c.how+": the child is gone", func() bool { return over(pid) })
	}
}

// holds says whether a process has a layer of isolation; "" is none, which each has.
func holds(p *pluginhost.Process, layer string) bool {
	for _, l := range p.Isolation() {
		if l.Name == layer {
			return l.Holds
		}
	}
	return layer == ""
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
	if err := hang(t, p); kindOf(err) != fault.Deadline {
		t.Fatal(err)
	}
	<-p.Done()
	coretest.Eventually(t, "the process is gone", func() bool { return gone(p.Pid()) })
}

func TestOutput(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var out bytes.Buffer
	h := newHost(t, hclog.New(&hclog.LoggerOptions{Output: &lockedWriter{&mu, &out}, JSONFormat: true}))
	p := launch(t, h, "engine/talker")
	if _, err := invoke(t.Context(), p, "5000"); err != nil {
		t.Fatal(err)
	}
	h.Close()
	lines, dropped := 0, 0
	said := map[string]string{}
	for line := range bytes.Lines(out.Bytes()) {
		var l struct {
			Level   string `json:"@level"`
			Plugin  string `json:"plugin"`
			Message string `json:"message"`
			Key     string `json:"key"`
			Lines   int    `json:"lines"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if l.Plugin != "engine/talker" {
			t.Errorf("whose is it: %s", line)
		}
		lines++
		dropped += l.Lines
		if len(l.Message) > 10_000 {
			t.Errorf("a line of %d bytes", len(l.Message))
		}
		said[strings.Fields(l.Message + " ?")[0]] += l.Level + " " + l.Message + l.Key
	}
	if want := "info one like a crash \ufffd"; !strings.Contains(said["one"], want) {
		t.Errorf("no %q in %q", want, said["one"])
	}
	if want := "warn one of a loggervalue"; !strings.Contains(said["one"], want) {
		t.Errorf("no %q in %q", want, said["one"])
	}
	if said["long"] == "" || strings.Contains(out.String(), "for nobody") {
		t.Errorf("%.2000s", out.String())
	}
	if lines > 105 || dropped < 4900 || lines+dropped < 5003 {
		t.Errorf("%d lines reached the host's log, %d were dropped", lines, dropped)
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
	h, err := pluginhost.New(pluginhost.Config{Dir: dir, Command: []string{program(), "child:plugin"}, Log: hclog.NewNullLogger()})
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
	exe := program()
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
	coretest.Eventually(t, "the plugin is gone", func() bool { return over(pid) })
}

// over reports whether a process runs no more; an orphan stays a zombie until init collects it.
func over(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z")
}

// Where the kernel does not see to it, a plugin ends itself when its host is gone, even if a run does not.
func TestPluginExitsWithItsSession(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	client := goplugin.NewClient(&goplugin.ClientConfig{ // a host of another make
		HandshakeConfig: plugin.Handshake, VersionedPlugins: engine.Versions(), Cmd: exec.Command(exe, "child:plugin", "engine/puppet"),
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, Logger: hclog.NewNullLogger(),
	})
	defer client.Kill()
	protocol, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := protocol.Dispense(engine.PluginName)
	if err != nil {
		t.Fatal(err)
	}
	c := raw.(*engine.Client)
	ended, hangs := make(chan error, 1), make(beginning)
	go func() { ended <- c.Invoke(t.Context(), enginetest.Request(t, "b", "hang now"), hangs) }()
	select {
	case <-hangs:
	case err := <-ended:
		t.Fatal(err)
	}
	c.Close()
	if err := <-ended; kindOf(err) != fault.EngineLost {
		t.Error(err)
	}
	coretest.Eventually(t, "the process has exited", client.Exited)
}

// beginning is a Reply that is closed when the answer begins.
type beginning chan struct{}

func (b beginning) Head(engine.Head) error {
	close(b)
	return nil
}

func (beginning) Write(p []byte) (int, error) { return len(p), nil }

// Many callers share a process, and a large body beside them holds nobody up or gets mixed up.
func TestManyCalls(t *testing.T) {
	t.Parallel()
	h := newHost(t, hclog.NewNullLogger())
	p := launch(t, h, "engine/puppet")
	const large = 6 << 20
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			a, err := invoke(t.Context(), p, "echo "+strings.Repeat("x", large))
			if err != nil || a.body.Len() != large {
				t.Errorf("%d bytes, %v", a.body.Len(), err)
			}
		})
	}
	for caller := range 64 {
		all.Go(func() {
			for n := range 50 {
				text := fmt.Sprint(caller, " ", n)
				if a, err := invoke(t.Context(), p, "echo "+text); err != nil || a.body.String() != text {
					t.Errorf("%q, %v", a.body.String(), err)
				}
			}
		})
	}
	all.Wait()
}
