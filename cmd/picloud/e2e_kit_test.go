package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/picloud/picloud/core/coretest"
)

// patience ends a wait for something that will not come. It is no measure of speed.
const patience = 2 * time.Minute

// await waits until a condition holds that sends no signal.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("never came true: %s", what)
		}
	}
}

// recorder is the outside witness of what engines do: it outlives every process of the platform.
type recorder struct {
	url string

	mu      sync.Mutex
	starts  map[string]map[int]int // execution id → attempt → times started
	running int
	most    int // runs at one time
	pid     int // of the engine that reported last

	barrier int           // a run does not begin before so many have reported; zero: at once
	full    chan struct{} // closed when they have
}

func newRecorder(t *testing.T) *recorder {
	r := &recorder{starts: map[string]map[int]int{}, full: make(chan struct{})}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	r.url = s.URL
	return r
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	id, pid := req.FormValue("id"), req.FormValue("pid")
	attempt, err := strconv.Atoi(req.FormValue("attempt"))
	if err != nil || id == "" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if req.URL.Path == "/end" {
		r.mu.Lock()
		r.running--
		r.mu.Unlock()
		return
	}
	r.start(id, attempt, pid)
	if r.barrier > 0 {
		select {
		case <-r.full:
		case <-req.Context().Done():
		}
	}
}

func (r *recorder) start(id string, attempt int, pid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pid, _ = strconv.Atoi(pid)
	r.running++
	if r.most = max(r.most, r.running); r.most == r.barrier {
		select {
		case <-r.full:
		default:
			close(r.full)
		}
	}
	if r.starts[id] == nil {
		r.starts[id] = map[int]int{}
	}
	r.starts[id][attempt]++
}

// started returns how many executions were started.
func (r *recorder) started() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.starts)
}

// of returns how often each attempt of an execution was started.
func (r *recorder) of(id string) map[int]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.starts[id])
}

// ids returns every execution that was started.
func (r *recorder) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.starts))
}

// checkOnce fails the test where one attempt was started more than once: it could not be told from the other.
func (r *recorder) checkOnce(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, attempts := range r.starts {
		for attempt, times := range attempts {
			if times != 1 {
				t.Errorf("attempt %d of %s was started %d times", attempt, id, times)
			}
		}
	}
}

func (r *recorder) mostAtOnce() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most
}

func (r *recorder) lastEngine() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pid
}

// instance is a running picloud process.
type instance struct {
	t      *testing.T
	data   string
	public string // URL of the public listener
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has ended
	client *http.Client

	mu      sync.Mutex
	printed strings.Builder // its output so far
}

// setup says how to start a node.
type setup struct {
	command  string // dev or serve
	data     string
	database string // URL; empty: its own
	recorder *recorder
	args     []string
	fail     string // what failpoint.Enable takes
}

// publicURL finds the public listener in what a node prints: dev for people, serve in its log.
var publicURL = regexp.MustCompile(`^ +Scripts +(http://\S+)/$|"public":"([^"]+)"`)

// start starts a node and returns when it serves. It ends with the test.
func start(t *testing.T, s setup) *instance {
	t.Helper()
	args := append([]string{
		s.command, "--data", s.data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		"--log-format", "json",
	}, s.args...)
	n := &instance{t: t, data: s.data, cmd: coretest.Command(t, platform, args...), ended: make(chan struct{})}
	if s.recorder != nil {
		n.cmd.Env = append(n.cmd.Env, recorderEnv+"="+s.recorder.url)
	}
	if s.fail != "" {
		n.cmd.Env = append(n.cmd.Env, failpointEnv+"="+s.fail)
	}
	if s.database != "" {
		n.cmd.Env = append(n.cmd.Env, "PICLOUD_DATABASE_URL="+s.database)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	n.cmd.Stdout, n.cmd.Stderr = w, w
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close() // the child has it
	found := make(chan string, 1)
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		n.follow(out, found)
	}()
	go func() {
		defer close(n.ended)
		_ = n.cmd.Wait() // killed, mostly
	}()
	n.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(func() {
		n.client.CloseIdleConnections()
		n.kill()
		<-printed
	})
	select {
	case n.public = <-found:
	case <-n.ended:
		t.Fatal("picloud ended before it served")
	}
	return n
}

// follow copies what the node prints to the test's log, and finds its address.
func (n *instance) follow(out io.ReadCloser, found chan<- string) {
	defer func() { _ = out.Close() }()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		n.t.Log(lines.Text())
		n.mu.Lock()
		n.printed.WriteString(lines.Text() + "\n")
		n.mu.Unlock()
		if m := publicURL.FindStringSubmatch(lines.Text()); m != nil {
			address := m[1]
			if m[2] != "" {
				address = "http://" + m[2]
			}
			select {
			case found <- address:
			default:
			}
		}
	}
}

// output is what the node has printed, at least until it served.
func (n *instance) output() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.printed.String()
}

// kill ends the node as a crash does, with SIGKILL, and returns when it is gone.
func (n *instance) kill() {
	_ = n.cmd.Process.Signal(syscall.SIGKILL)
	<-n.ended
}

func (n *instance) alive() bool {
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

// reply is an answer of the public listener.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r reply) String() string {
	return fmt.Sprintf("%d %s %.300q", r.status, r.header.Get("Content-Type"), r.body)
}

// send sends a request to a path of the public listener.
func (n *instance) send(method, path string, body []byte) (reply, error) {
	req, err := http.NewRequestWithContext(n.t.Context(), method, n.public+path, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	return n.do(req)
}

// do sends a request again while no slot comes free for it, as callers are told to: on a busy machine runs take long.
func (n *instance) do(req *http.Request) (r reply, err error) {
	for end := time.Now().Add(patience); ; {
		r, err = n.once(req)
		if err != nil || field(r.body, "type") != "urn:picloud:problem:busy" || time.Now().After(end) {
			return r, err
		}
		if req.GetBody != nil {
			if req.Body, err = req.GetBody(); err != nil {
				return reply{}, err
			}
		}
	}
}

func (n *instance) once(req *http.Request) (reply, error) {
	res, err := n.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, body}, err
}

// must is send where nothing may fail.
func (n *instance) must(method, path string, body []byte) reply {
	n.t.Helper()
	r, err := n.send(method, path, body)
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}

// expect sends a GET and checks the answer.
func (n *instance) expect(path string, status int, body string) {
	n.t.Helper()
	if r := n.must(http.MethodGet, path, nil); r.status != status || string(r.body) != body {
		n.t.Errorf("GET %s: %s, want %d %q", path, r, status, body)
	}
}

// problem sends a GET and checks that the answer is a problem of this status and kind that names its execution.
func (n *instance) problem(path string, status int, kind string) {
	n.t.Helper()
	r := n.must(http.MethodGet, path, nil)
	var p struct{ Type, Title, ExecutionID string }
	p.ExecutionID = field(r.body, "execution_id")
	if err := json.Unmarshal(r.body, &p); err != nil || r.status != status || p.Type != "urn:picloud:problem:"+kind ||
		r.header.Get("Content-Type") != "application/problem+json" || p.ExecutionID == "" {
		n.t.Errorf("GET %s: %s, want problem %d %s with an execution", path, r, status, kind)
	}
}

// field returns a string of a JSON object, "" if it has none of that name.
func field(data []byte, name string) string {
	var object map[string]any
	if json.Unmarshal(data, &object) != nil {
		return ""
	}
	text, _ := object[name].(string)
	return text
}

// cli runs a client command against the node and returns its exit status and output.
func (n *instance) cli(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(n.t.Context(), append(args, "--data", n.data, "--output", "json"), strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

// command runs a client command that must succeed and returns what it printed.
func (n *instance) command(args ...string) string {
	n.t.Helper()
	code, out, errs := n.cli(args...)
	if code != 0 {
		n.t.Fatalf("picloud %s: exit status %d: %s", strings.Join(args, " "), code, errs)
	}
	return out
}

// script writes a source with this Handle and returns its path. picloud is imported, and others as named.
func script(t *testing.T, name, body string, imports ...string) string {
	t.Helper()
	var text strings.Builder
	text.WriteString("package main\n\nimport (\n\t\"github.com/picloud/picloud/sdk/picloud\"\n")
	for _, path := range imports {
		fmt.Fprintf(&text, "\t%q\n", path)
	}
	fmt.Fprintf(&text, ")\n\nfunc Handle(ctx *picloud.Context) (any, error) {\n%s\n}\n", body)
	path := filepath.Join(t.TempDir(), name+".go")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// underRace says that the race detector watches.
var underRace = func() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}()
