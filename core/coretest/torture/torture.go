// Package torture runs real nodes over a real Postgres, hurts them in every way that a seed comes up with, and checks all
// the while that no promise is broken: what was acknowledged is never lost, ends once, and starts no more often than it
// may.
//
// Three parties know what happened. Clients keep a journal of what they were told. Engines report every run to a
// recorder, before it begins and when it ends. The database is looked at each second. What they say must agree.
package torture

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/coretest/faultdb"
	"github.com/picloud/picloud/core/postgres/embedded"
)

// World is a platform and all who watch it.
type World struct {
	t        testing.TB
	options  Options
	dir      string
	server   *embedded.Server
	nodes    []*Node
	recorder *Recorder
	url      string // of the recorder
	client   *http.Client
	token    string
	journal  Journal
	crashed  time.Time // when the load last ended an engine
	orders   *keys
	figures  figures
	counts   map[string]int
	checked  atomic.Int64

	serverFault sync.Mutex // held by whoever hurts the database server

	mu       sync.Mutex
	seen     map[string]int
	breaches map[string][]string
	cancels  map[string]cancelled // by entry
	doomed   []candidate
	first    string        // breach
	broken   chan struct{} // closed by it
	hurts    []span        // faults, by number
	downs    []time.Time   // when the server was down
	until    time.Time     // no fault begins after it; set before the first
}

// NewWorld starts a database, a recorder and the nodes, and deploys the scripts. All ends with the test.
func NewWorld(t testing.TB, o Options) *World {
	t.Helper()
	w := &World{
		t: t, options: o, dir: coretest.DataDir(t), counts: map[string]int{}, seen: map[string]int{}, broken: make(chan struct{}),
		breaches: map[string][]string{}, cancels: map[string]cancelled{}, orders: newKeys(12), figures: figures{samples: map[string][]time.Duration{}},
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}},
	}
	w.recorder = newRecorder(w.breach)
	w.recorder.doomed = w.willDie
	witness := httptest.NewServer(w.recorder)
	t.Cleanup(witness.Close)
	t.Cleanup(w.client.CloseIdleConnections)
	w.url = witness.URL
	var err error
	w.server, err = embedded.Start(t.Context(), embedded.Config{Dir: w.dir, Conns: 200, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := w.server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	for i := range o.Nodes {
		w.addNode(i)
	}
	if err := w.deploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *World) addNode(i int) {
	w.t.Helper()
	proxy, err := faultdb.New(w.server.URL())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(proxy.Close)
	n := &Node{world: w, proxy: proxy, setup: nodeSetup{
		Name: fmt.Sprintf("node%d", i), Data: fmt.Sprintf("%s/node%d", w.dir, i), Database: proxy.URL(), Recorder: w.url,
		Slots: w.options.Slots[i], Drain: 10 * time.Second,
	}}
	if err := os.MkdirAll(n.setup.Data, 0o700); err != nil {
		w.t.Fatal(err)
	}
	w.nodes = append(w.nodes, n)
	if err := n.start(w.t.Context(), ""); err != nil {
		w.t.Fatal(err)
	}
	if token := n.now().ready.Token; token != "" {
		w.token = token
	}
}

// deploy makes the apps and their scripts, and waits until every node has them.
func (w *World) deploy(ctx context.Context) error {
	n := w.nodes[0]
	made := map[string]bool{"default": true}
	for _, s := range scripts {
		if !made[s.app] {
			made[s.app] = true
			if err := n.api(ctx, http.MethodPost, "/apps", map[string]any{"slug": s.app}, nil); err != nil {
				return err
			}
			domain := map[string]any{"host": s.app + ".test"}
			if err := n.api(ctx, http.MethodPost, "/apps/"+s.app+"/domains", domain, nil); err != nil {
				return err
			}
		}
		mode := "sync"
		if s.async {
			mode = "async"
		}
		err := n.api(ctx, http.MethodPost, "/apps/"+s.app+"/deploy", map[string]any{
			"script": s.name, "files": []map[string]string{{"name": "main.go", "content": "package main"}},
			"routes":     []map[string]string{{"method": "POST", "pattern": s.path, "mode": mode}},
			"timeout_ms": s.timeout.Milliseconds(), "max_attempts": max(s.attempts, 1), "transactional": s.transactional,
		}, nil)
		if err == nil && s.policy != nil {
			err = n.api(ctx, http.MethodPatch, "/apps/"+s.app+"/scripts/"+s.name, map[string]any{"policy": s.policy}, nil)
		}
		if err != nil {
			return err
		}
	}
	for _, q := range queues {
		in := map[string]any{"name": q.name, "script": q.script}
		if q.policy != nil {
			in["policy"] = q.policy
		}
		if err := n.api(ctx, http.MethodPost, "/apps/default/queues", in, nil); err != nil {
			return err
		}
	}
	last := scripts[len(scripts)-1]
	for _, n := range w.nodes {
		coretest.Eventually(w.t, "node "+n.setup.Name+" serves the scripts", func() bool {
			o := &Op{App: last.app, Script: last.name}
			o.Nonce = uuid.NewString()
			w.send(n.now(), o)
			return o.Result == acknowledged
		})
	}
	return nil
}

// saw counts a thing that must have been seen.
func (w *World) saw(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[what]++
}

// breach notes that a promise was broken.
func (w *World) breach(rule, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == "" {
		w.first = rule + ": " + what
		close(w.broken)
	}
	if len(w.breaches[rule]) == 0 {
		w.t.Logf("BROKEN %s: %s", rule, what)
	}
	w.breaches[rule] = append(w.breaches[rule], what)
}

// firstBroken is the promise that was broken first, and by what.
func (w *World) firstBroken() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first
}

// span is the time of a fault. Its end is zero while it goes on.
type span struct{ from, to time.Time }

func (w *World) begin() (fault int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hurts = append(w.hurts, span{from: time.Now()})
	return len(w.hurts) - 1
}

func (w *World) end(fault int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hurts[fault].to = time.Now()
}

// calm reports whether no fault went on since a time, nor a moment before it, but for the one with this number.
func (w *World) calm(from, to time.Time, except int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, s := range w.hurts {
		if i != except && s.from.Before(to) && (s.to.IsZero() || s.to.After(from.Add(-aftermath))) {
			return false
		}
	}
	return true
}

// aftermath is how long a fault that is over may still be felt.
const aftermath = time.Second

// none is no fault.
const none = -1

func (w *World) noteServerDown() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.downs = append(w.downs, time.Now())
}

func (w *World) serverDownSince(t time.Time) bool { return w.disturbed(t, time.Now()) }

// disturbed reports whether the server was down between two times, or so short before that nobody takes over.
func (w *World) disturbed(from, to time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.downs, func(t time.Time) bool { return t.After(from.Add(-10*time.Second)) && t.Before(to) })
}

// Run carries the plan out under load, lets everything heal, and judges. It returns when all is known.
func (w *World) Run(ctx context.Context) error {
	return w.under(ctx, func() {
		began := time.Now()
		w.torment(ctx)
		pause(ctx, w.options.Time-time.Since(began))
	})
}

// under does something while the load goes on and the rules are watched, and judges when all is quiet.
func (w *World) under(ctx context.Context, do func()) error {
	watching, stopWatching := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer stopWatching()
	watchers.Go(func() { w.watch(watching) })

	loading, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	var loads sync.WaitGroup
	loads.Go(func() { w.load(loading, w.options.Rate) })
	loads.Go(func() { w.replay(loading) })
	do()
	stopLoad()
	loads.Wait()
	if err := w.heal(ctx); err != nil {
		return err
	}
	stopWatching()
	watchers.Wait()
	return w.judge(ctx)
}

// Report is everything that was found, for people. ok says that no promise was broken.
func (w *World) Report(strict bool) (text string, ok bool) {
	var b strings.Builder
	table, over := w.figures.table()
	b.WriteString(table)
	for _, n := range w.nodes {
		s := n.proxy.Stats()
		w.seen["an ambiguous commit that had happened"] += s.LostAnswers
		w.seen["an ambiguous commit that had not happened"] += s.LostRequests
	}
	fmt.Fprintf(&b, "\n%d requests, %d runs, %d checks\n", len(w.journal.all()), len(w.recorder.all), w.checked.Load())
	for _, name := range slices.Sorted(maps.Keys(w.counts)) {
		fmt.Fprintf(&b, "%7d %s\n", w.counts[name], name)
	}
	b.WriteString("seen:\n")
	for _, name := range slices.Sorted(maps.Keys(w.seen)) {
		fmt.Fprintf(&b, "%7d %s\n", w.seen[name], name)
	}
	for _, name := range slices.Sorted(maps.Keys(w.recorder.acted)) {
		fmt.Fprintf(&b, "%7d failpoint %s\n", w.recorder.acted[name], name)
	}
	var missing []string
	for _, name := range sometimes {
		if w.seen[name] == 0 {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		fmt.Fprintf(&b, "never seen: %s\n", strings.Join(missing, ", "))
	}
	for _, rule := range slices.Sorted(maps.Keys(w.breaches)) {
		fmt.Fprintf(&b, "BROKEN %s, %d times\n", rule, len(w.breaches[rule]))
		for _, what := range w.breaches[rule][:min(5, len(w.breaches[rule]))] {
			fmt.Fprintf(&b, "    %s\n", what)
		}
	}
	return b.String(), len(w.breaches) == 0 && (!strict || len(missing)+len(over) == 0)
}

// sometimes is what a long run must have seen, or it has shown nothing.
var sometimes = append(slices.Clone(kinds),
	"a dead letter replayed to success", "a key reused is refused", "a run cancelled", "take-over", "a fenced finish refused", "an ambiguous commit that had happened",
	"an ambiguous commit that had not happened", "a poison park", "a dead letter", "a duplicate delivered",
	"a retry after more than three attempts", "a transfer that was overtaken", "a transfer that was tried again", "a transfer that failed after all",
)
