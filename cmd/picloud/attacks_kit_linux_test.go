package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/coretest"
)

// How long runs may take: those that only their deadline ends, and those that something else ends long before.
const (
	soon = 300 * time.Millisecond
	late = 20 * time.Second
)

// attackers is the app whose scripts attack. Those of the app "default" are the neighbours.
const attackers = "attackers"

// arena is a node under attack.
type arena struct {
	*instance
	admin credentials
	base  figures // when nothing had happened yet
}

// newArena starts a node and deploys the cells and neighbours of some languages.
func newArena(t *testing.T, module []byte, of []string, args ...string) *arena {
	t.Helper()
	a := &arena{instance: start(t, setup{
		command: "dev", data: coretest.DataDir(t), database: coretest.URL(t), args: append(args, "--log-level", "warn"),
	})}
	var err error
	if a.admin, err = readCredentials(credentialsFile(a.data)); err != nil {
		t.Fatal(err)
	}
	a.command("apps", "create", attackers)
	a.command("domains", "add", attackers+".test", "--app", attackers)
	for _, language := range of {
		a.deployNeighbour(t, language, module)
		a.deployCells(t, language, module)
	}
	a.client.CloseIdleConnections()
	a.base = a.quiet(t)
	return a
}

// deploy makes a script, or says why it was refused.
func (a *arena) deploy(ctx context.Context, app, name, file, source, pattern string, timeout time.Duration) error {
	_, err := call[api.Deployed](ctx, &cli{data: a.data}, http.MethodPost, client.Path("apps", app, "deploy"), api.NewDeployment{
		Script: name, Files: []api.SourceFile{api.NewSourceFile(file, []byte(source))}, TimeoutMS: timeout.Milliseconds(),
		Routes: []api.DeployRoute{{Method: http.MethodPost, Pattern: pattern}},
	})
	return err
}

func (a *arena) deployNeighbour(t *testing.T, language string, module []byte) {
	t.Helper()
	file, source := "main.wasm", string(module)
	if language != inWasm {
		file, source = (&cell{}).file(language), neighbours[language]
	}
	if err := a.deploy(t.Context(), "default", "neighbour-"+language, file, source, neighbourPath(language), time.Minute); err != nil {
		t.Fatal(err)
	}
	await(t, "the neighbour answers", func() bool { return a.ask(language, 4) == nil })
}

func (a *arena) deployCells(t *testing.T, language string, module []byte) {
	t.Helper()
	if language == inWasm {
		for _, timeout := range []time.Duration{soon, late} {
			if err := a.deploy(t.Context(), attackers, "wasm-"+timeout.String(), "main.wasm", string(module), modulePath(timeout)+"{attack}", timeout); err != nil {
				t.Fatal(err)
			}
			a.answersGo(t, modulePath(timeout)+"go")
		}
		return
	}
	for _, s := range strikes(language) {
		if s.refused() {
			continue
		}
		if err := a.place(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		a.answersGo(t, s.path())
	}
}

// place deploys the script of a cell.
func (a *arena) place(ctx context.Context, s strike) error {
	return a.deploy(ctx, attackers, s.script(), s.file(s.language), s.source(s.language), s.path(), s.timeout())
}

// answersGo waits until an attacking script answers when it is told not to attack. It may have to be loaded first, for which its time is
// too short where it has little.
func (a *arena) answersGo(t *testing.T, path string) {
	t.Helper()
	var r reply
	var err error
	await(t, "the script answers", func() bool {
		r, err = a.attack(path, "go")
		return err != nil || r.status != http.StatusGatewayTimeout && r.status != http.StatusServiceUnavailable
	})
	if err != nil || r.status != http.StatusOK || string(r.body) != "1" {
		t.Errorf("the next call of %s: %s, %v", path, r, err)
	}
}

// attack calls an attacking script.
func (a *arena) attack(path, body string) (reply, error) {
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, a.public+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	req.Host = attackers + ".test"
	req.Header.Set("X-Socket", filepath.Join(a.data, "run"))
	return a.do(req)
}

// ask has the neighbour of a language work, and says what is wrong with its answer.
func (a *arena) ask(language string, n int) error {
	r, err := a.send(http.MethodPost, neighbourPath(language), []byte(strconv.Itoa(n)))
	if want := strconv.Itoa(n * (n + 1) / 2); err == nil && (r.status != http.StatusOK || string(r.body) != want) {
		err = fmt.Errorf("the neighbour in %s: %s, not %s", language, r, want)
	}
	return err
}

func neighbourPath(language string) string        { return "/neighbour/" + language }
func modulePath(timeout time.Duration) string     { return "/wasm/" + timeout.String() + "/" }
func (c *cell) file(language string) (f string)   { f, _ = c.write(language); return f }
func (c *cell) source(language string) (s string) { _, s = c.write(language); return s }

// hammer asks the neighbours of some languages over and over, until the function that it returns is called; that returns how long each
// answer took. Every answer must be right.
func (a *arena) hammer(t *testing.T, languages ...string) func() []time.Duration {
	var mu sync.Mutex
	var took []time.Duration
	stop := make(chan struct{})
	var all sync.WaitGroup
	for _, language := range languages {
		all.Go(func() {
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				begun := time.Now()
				if err := a.ask(language, n%100); err != nil {
					t.Errorf("meanwhile: %v", err)
				}
				mu.Lock()
				took = append(took, time.Since(begun))
				mu.Unlock()
				select {
				case <-stop:
					return
				case <-tick.C:
				}
			}
		})
	}
	return func() []time.Duration {
		close(stop)
		all.Wait()
		return took
	}
}

// figures are what a node says of itself, and what can be seen of it from outside.
type figures struct {
	running    float64 // runs, and what waits for a slot
	processes  float64
	crashes    float64
	goroutines float64
	children   int
	folders    int // for sockets: each process has one, and go-plugin makes another that is not used
}

// look reads the figures.
func (a *arena) look(t *testing.T) (f figures) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.admin.URL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+a.admin.Token)
	r, err := a.do(req)
	if err != nil || r.status != http.StatusOK {
		t.Fatalf("metrics: %s, %v", r, err)
	}
	for line := range strings.Lines(string(r.body)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ = strings.Cut(name, "{")
		n, _ := strconv.ParseFloat(value, 64)
		switch name {
		case "picloud_runs", "picloud_waiting":
			f.running += n
		case "picloud_engine_processes":
			f.processes += n
		case "picloud_engine_crashes_total":
			f.crashes = n
		case "go_goroutines":
			f.goroutines = n
		}
	}
	f.children = a.children(t)
	folders, err := os.ReadDir(filepath.Join(a.data, "run", strconv.Itoa(a.cmd.Process.Pid)))
	if err != nil {
		t.Fatal(err)
	}
	f.folders = len(folders)
	return f
}

// children counts the processes that the node has started, those included that have ended and were not waited for.
func (a *arena) children(t *testing.T) (n int) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", a.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range threads {
		pids, _ := os.ReadFile(path) // the thread may have ended
		n += len(strings.Fields(string(pids)))
	}
	return n
}

// quiet waits until nothing runs, and every process and folder is one that the node knows of. Nobody may ask anything meanwhile.
func (a *arena) quiet(t *testing.T) (f figures) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		if f = a.look(t); f.running == 0 && f.children == int(f.processes) && f.folders == 2*f.children {
			return f
		}
		if !a.alive() || time.Now().After(end) {
			t.Fatalf("something is left of the runs: %+v", f)
		}
	}
}

// settled returns the figures of a node that is quiet, and checks that it has no more goroutines than at first, but for those of the processes that it has more now.
func (a *arena) settled(t *testing.T) (f figures) {
	t.Helper()
	const each, some = 24, 12
	await(t, "the goroutines of the node end", func() bool {
		a.client.CloseIdleConnections()
		f = a.quiet(t)
		return f.goroutines <= a.base.goroutines+some+each*max(0, f.processes-a.base.processes)
	})
	t.Logf("goroutines of the node: %.0f, at first %.0f; engine processes: %.0f, at first %.0f; died: %.0f",
		f.goroutines, a.base.goroutines, f.processes, a.base.processes, f.crashes)
	return f
}

// buildModule compiles testdata/attacks.
func buildModule(t *testing.T) []byte {
	t.Helper()
	to := filepath.Join(t.TempDir(), "attacks.wasm")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s", "-buildmode=c-shared", "-o", to, "./testdata/attacks")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the module: %v\n%s", err, out)
	}
	module, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

// quantile of durations; zero where there are none.
func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return all[min(len(all)-1, int(q*float64(len(all))))]
}
