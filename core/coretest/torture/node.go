package torture

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/coretest/faultdb"
	"github.com/picloud/picloud/core/planted"
)

// startLimit bounds the start of a node, which waits for its database.
const startLimit = 90 * time.Second

// Node is a place for node processes: one at a time.
type Node struct {
	world *World
	setup nodeSetup
	proxy *faultdb.Proxy

	fault sync.Mutex // held by whoever does something to the process

	mu    sync.Mutex
	life  *life
	since time.Time // the node has been well since; zero: it is not
}

// life is one process of a node.
type life struct {
	cmd   *exec.Cmd
	pid   int
	ready nodeReady
	ended chan struct{}
	rest  atomic.Bool            // nothing more is sent to it
	last  atomic.Pointer[string] // line that it printed
}

// words are what nodes log of the things that must have been seen.
var words = map[string]string{
	"took over entries of dead nodes":            "take-over",
	"evicted nodes whose heartbeat stopped":      "eviction",
	"settlements dropped":                        "a fenced finish refused",
	"the epoch is lost":                          "an epoch lost",
	"gives an entry back that was never started": "an ambiguous claim given back",
	"entries not written yet":                    "an insert repeated",
	"settlements not written yet":                "a settlement repeated",
	"heartbeat missed":                           "a heartbeat missed",
	"the engine process died":                    "an engine died",
	"joined with a new epoch":                    "a new epoch joined",
}

// defects are what nodes must never log.
var defects = []string{
	"entries waited at gates that had room", "settlement refused by the database", "took only a part of the batch",
	"panic:", "fatal error:", "the node failed",
}

// start starts a process for the node and waits until it serves. One that ends because its database is away is started
// again, as any supervisor does.
func (n *Node) start(ctx context.Context, failpoints string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := n.startOnce(ctx, failpoints)
		if failpoints != "" || !errors.Is(err, errEnded) || !pause(ctx, 200*time.Millisecond) {
			return err
		}
	}
}

// errEnded says that a node process ended before it served.
var errEnded = errors.New("it ended before it served")

func (n *Node) startOnce(ctx context.Context, failpoints string) error {
	setup := n.setup
	setup.Failpoints, setup.Seed = failpoints, n.world.options.Seed
	text, err := json.Marshal(setup)
	if err != nil {
		return err
	}
	l := &life{cmd: coretest.Command(n.world.t, NodeChild), ended: make(chan struct{})}
	l.cmd.Env = append(l.cmd.Env, setupEnv+"="+string(text))
	if d := n.world.options.Defect; d != nil {
		l.cmd.Env = append(l.cmd.Env, planted.Env+"="+d.Name)
	}
	out, w, err := os.Pipe()
	if err != nil {
		return err
	}
	l.cmd.Stdout, l.cmd.Stderr = w, w
	if err := l.cmd.Start(); err != nil {
		return err
	}
	_ = w.Close() // the child has it
	l.pid = l.cmd.Process.Pid
	ready := make(chan nodeReady, 1)
	printed := make(chan struct{})
	go func() { defer close(printed); n.follow(out, l, ready) }()
	go func() {
		defer close(l.ended)
		_ = l.cmd.Wait() // killed, mostly
		<-printed
	}()
	n.world.t.Cleanup(func() {
		_ = l.cmd.Process.Signal(syscall.SIGKILL)
		<-l.ended
	})
	select {
	case l.ready = <-ready:
	case <-l.ended:
		return fmt.Errorf("node %s: %w: %s", setup.Name, errEnded, l.end())
	case <-ctx.Done():
		_ = l.cmd.Process.Kill()
		return fmt.Errorf("node %s does not serve: %w", setup.Name, context.Cause(ctx))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.life, n.since = l, time.Now()
	return nil
}

// end says how a process that has ended did, with its last words.
func (l *life) end() string {
	if last := l.last.Load(); last != nil {
		return l.cmd.ProcessState.String() + ": " + *last
	}
	return l.cmd.ProcessState.String()
}

// follow keeps what a node prints, and counts what must be seen.
func (n *Node) follow(out io.ReadCloser, l *life, ready chan<- nodeReady) {
	defer func() { _ = out.Close() }()
	file, err := os.OpenFile(filepath.Join(n.world.dir, n.setup.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		defer func() { _ = file.Close() }()
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if text, is := strings.CutPrefix(line, readyMark); is {
			var r nodeReady
			if json.Unmarshal([]byte(text), &r) == nil {
				ready <- r
			}
			continue
		}
		if file != nil {
			_, _ = fmt.Fprintf(file, "%d %s\n", l.pid, line)
		}
		l.last.Store(&line)
		for word, what := range words {
			if strings.Contains(line, word) {
				n.world.saw(what)
			}
		}
		for _, word := range defects {
			if strings.Contains(line, word) {
				n.world.breach("no defect is logged", n.setup.Name+": "+line)
			}
		}
	}
}

// now returns the process, nil if there is none that serves.
func (n *Node) now() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life
}

// well reports since when the node has been left alone; zero: it is not.
func (n *Node) well() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.since
}

func (n *Node) setWell(well bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.since = (time.Time{}); well {
		n.since = time.Now()
	}
}

// gone takes note that the process is no more.
func (n *Node) gone() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.life, n.since = nil, time.Time{}
}

// kill ends the process with SIGKILL and waits for it.
func (n *Node) kill() {
	l := n.now()
	if l == nil {
		return
	}
	n.world.recorder.excuse(l.pid, func(e *excuse) { e.lost = true })
	_ = l.cmd.Process.Signal(syscall.SIGKILL)
	<-l.ended
	n.gone()
}

// stop ends the process as an operator does, and returns how long that took.
func (n *Node) stop() (time.Duration, error) {
	l := n.now()
	if l == nil {
		return 0, nil
	}
	n.setWell(false)
	n.world.recorder.excuse(l.pid, func(e *excuse) { e.leaving = true })
	l.rest.Store(true)
	began := time.Now()
	_ = l.cmd.Process.Signal(syscall.SIGTERM)
	limit := time.NewTimer(n.setup.Drain + 20*time.Second)
	defer limit.Stop()
	select {
	case <-l.ended:
	case <-limit.C:
		stacks := n.ask("/stacks")
		n.kill()
		return 0, fmt.Errorf("node %s did not stop:\n%.20000s", n.setup.Name, stacks)
	}
	n.gone()
	if !l.cmd.ProcessState.Success() {
		return 0, fmt.Errorf("node %s: %s", n.setup.Name, l.end())
	}
	return time.Since(began), nil
}

// arm turns failpoints of the running process on.
func (n *Node) arm(spec string) error {
	l := n.now()
	if l == nil {
		return nil
	}
	res, err := n.world.client.Post(l.ready.Control+"/failpoints", "text/plain", strings.NewReader(spec))
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		return fmt.Errorf("arm %s: %s", spec, text)
	}
	return nil
}

// ask returns what a control of the process says, nil if it says nothing.
func (n *Node) ask(path string) []byte {
	l := n.now()
	if l == nil {
		return nil
	}
	res, err := n.world.client.Get(l.ready.Control + path)
	if err != nil {
		return nil
	}
	defer func() { _ = res.Body.Close() }()
	text, _ := io.ReadAll(res.Body)
	return text
}

// api calls the control API and decodes the answer into out, unless that is nil.
func (n *Node) api(ctx context.Context, method, path string, in, out any) error {
	l := n.now()
	if l == nil {
		return fmt.Errorf("node %s is down", n.setup.Name)
	}
	return n.world.api(ctx, l, method, path, in, out)
}

// api calls the control API of a node process.
func (w *World) api(ctx context.Context, l *life, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, l.ready.Admin+"/api/v1"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+w.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return &apiError{res.StatusCode, fmt.Sprintf("%s %s: %s: %.500s", method, path, res.Status, text)}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// apiError is a refusal of the control API.
type apiError struct {
	status int
	text   string
}

func (e *apiError) Error() string { return e.text }
