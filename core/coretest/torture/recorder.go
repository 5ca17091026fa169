package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// startReport is what an engine says before a run.
type startReport struct {
	Command
	ID      string `json:"id"`
	Attempt int    `json:"attempt"`
	Engine  int    `json:"engine"` // process ids
	Node    int    `json:"node"`
}

// How an engine says that a run has ended.
const (
	endOK        = "ok"
	endFailed    = "failed"
	endCancelled = "cancelled"
)

type endReport struct {
	Token   string `json:"token"`
	Outcome string `json:"outcome"`
}

// sentReport is what an engine says once the host has taken an event of a script.
type sentReport struct {
	ID    string  `json:"id"`
	Child Command `json:"child"`
	Once  bool    `json:"once"`
}

// Run is one start of one attempt, as it was seen.
type Run struct {
	startReport
	Began   time.Time
	Ended   time.Time // zero: no end was seen
	Outcome string
}

// Recorder is the witness outside of the platform: it outlives every process of it. Its checks are those that need the
// order of what happened; all others are made of the history at the end. Safe for concurrent use.
type Recorder struct {
	mu       sync.Mutex
	all      []*Run
	byID     map[string][]*Run
	byNonce  map[string][]*Run
	byOrder  map[string][]*Run
	byLimit  map[string][]*Run
	children map[string]string // nonces of entries that scripts have sent
	onceSent map[string]string // entries by nonce that scripts have sent under a key
	doomed   func(id, nonce string)
	acted    map[string]int       // failpoints that acted
	excused  map[int]excuse       // by node process
	broken   func(string, string) // told of what must never be
	started  chan struct{}        // closed at the next start
}

// excuse is why a node process may let a run go on that another one starts again.
type excuse struct {
	leaving bool      // it was told to stop: what it cancels is given back uncharged
	lost    bool      // it was killed
	until   time.Time // it was out of touch, until then
	asleep  time.Time // it was frozen for a moment, until then
}

func newRecorder(broken func(rule, what string)) *Recorder {
	return &Recorder{
		byID: map[string][]*Run{}, byNonce: map[string][]*Run{}, byOrder: map[string][]*Run{}, byLimit: map[string][]*Run{},
		children: map[string]string{}, onceSent: map[string]string{}, acted: map[string]int{}, excused: map[int]excuse{}, broken: broken, started: make(chan struct{}),
	}
}

// ServeHTTP takes reports.
func (r *Recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch req.URL.Path {
	case "/start":
		var s startReport
		if err := json.NewDecoder(req.Body).Decode(&s); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		token, entries := r.start(s)
		_, _ = fmt.Fprint(w, token, " ", entries)
	case "/sent":
		var s sentReport
		if err := json.NewDecoder(req.Body).Decode(&s); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.sent(s)
	case "/end":
		var e endReport
		if err := json.NewDecoder(req.Body).Decode(&e); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.end(e)
	case "/acted":
		r.mu.Lock()
		r.acted[req.FormValue("point")]++
		r.mu.Unlock()
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// patience is how long what a node had on its way may arrive after it is back in touch.
const patience = time.Second

// start returns a number of the run, and how many entries have its nonce.
func (r *Recorder) start(s startReport) (token, entries int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := &Run{startReport: s, Began: time.Now()}
	for _, before := range r.byID[s.ID] {
		r.compare(before, now)
	}
	if s.Sync && len(r.byNonce[s.Nonce]) > 0 {
		r.broken("sync at most once", fmt.Sprintf("%s is started again: %s", s.Nonce, r.history(s.ID)))
	}
	if s.NotBefore > 0 && now.Began.UnixMilli() < s.NotBefore-1000 {
		r.broken("I22 not early", fmt.Sprintf("%s starts %d ms early", s.ID, s.NotBefore-now.Began.UnixMilli()))
	}
	if s.Order != "" {
		r.checkOrder(now)
		r.byOrder[s.Order] = append(r.byOrder[s.Order], now)
	}
	if s.Limit != "" {
		r.checkLimit(now)
		r.byLimit[s.Limit] = append(r.byLimit[s.Limit], now)
	}
	r.all = append(r.all, now)
	r.byID[s.ID] = append(r.byID[s.ID], now)
	r.byNonce[s.Nonce] = append(r.byNonce[s.Nonce], now)
	close(r.started)
	r.started = make(chan struct{})
	ids := map[string]bool{}
	for _, run := range r.byNonce[s.Nonce] {
		ids[run.ID] = true
	}
	return len(r.all) - 1, len(ids)
}

// sent takes note of an event that a script was told to be safe.
func (r *Recorder) sent(s sentReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id := r.children[s.ID]; id == "" && s.Child.FailEntry && r.doomed != nil {
		r.doomed(s.ID, s.Child.Nonce)
	}
	r.children[s.ID] = s.Child.Nonce
	if first, known := r.onceSent[s.Child.Nonce]; s.Once && known && first != s.ID {
		r.broken("I15 one key, one execution", fmt.Sprintf("a script sent %s as %s and as %s", s.Child.Nonce, first, s.ID))
	} else if s.Once {
		r.onceSent[s.Child.Nonce] = s.ID
	}
}

// sentIDs returns every entry that scripts were told to be safe.
func (r *Recorder) sentIDs() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.children))
}

// compare checks a start against an earlier one of the same entry.
func (r *Recorder) compare(before, now *Run) {
	switch {
	case before.Transfer != nil && (before.Outcome == endOK || before.Outcome == endFailed) && before.Attempt <= now.Attempt:
		// It was overtaken, perhaps having failed for it, or its commit was in doubt, which is not charged. That nothing of it is done
		// twice is for judgeTransfers.
	case before.Attempt == now.Attempt && !r.excused[before.Node].leaving:
		r.broken("I03 one start an attempt", fmt.Sprintf("attempt %d of %s is started again: %s", now.Attempt, now.ID, r.history(now.ID)))
	case before.Attempt > now.Attempt && !r.wasAway(now.Node, now.Began) && !r.excused[before.Node].leaving:
		r.broken("I05 attempts rise", fmt.Sprintf("attempt %d of %s starts after %d: %s", now.Attempt, now.ID, before.Attempt, r.history(now.ID)))
	case before.Attempt > now.Attempt:
		// A node that was frozen after its last look at its lease starts what others have run since. Nothing can prevent
		// that; if it ends well it counts as a duplicate, and what its script asks of the platform is refused.
	case before.Outcome == endOK && !r.mayRepeat(before):
		r.broken("done once", fmt.Sprintf("%s starts again though attempt %d succeeded: %s", now.ID, before.Attempt, r.history(now.ID)))
	case r.open(before) && !r.mayRepeat(before):
		r.broken("no two at once", fmt.Sprintf("attempt %d of %s starts while %d runs: %s", now.Attempt, now.ID, before.Attempt, r.history(now.ID)))
	}
}

// open reports whether a run may still be going on: no end was seen and its process lives.
func (r *Recorder) open(run *Run) bool {
	return run.Ended.IsZero() && alive(run.Engine) && alive(run.Node)
}

func alive(pid int) bool {
	// A zombie answers signals; only its state tells.
	state := processState(pid)
	return state != 0 && state != 'Z' && state != 'X' && syscall.Kill(pid, 0) == nil
}

// mayRepeat reports whether the node of a run was killed or out of touch since, so that others had to take it over, or its
// engine died, perhaps with the answer.
func (r *Recorder) mayRepeat(run *Run) bool {
	e := r.excused[run.Node]
	// A node that wakes after the time of a run is over takes the run for failed, whatever its engine has said meanwhile.
	overslept := e.asleep.Sub(run.Began) > shortestTime-patience
	return e.lost || e.leaving || e.until.After(run.Began) || overslept || !alive(run.Engine)
}

func (r *Recorder) wasAway(node int, at time.Time) bool {
	return r.excused[node].until.Add(patience).After(at)
}

func (r *Recorder) checkOrder(now *Run) {
	before := r.byOrder[now.Order]
	before = before[max(0, len(before)-50):]
	for _, b := range before {
		switch {
		case b.ID != now.ID && r.open(b) && !r.mayRepeat(b):
			r.broken("I06 order", fmt.Sprintf("%s starts while %s of key %s runs", now.ID, b.ID, now.Order))
		case b.Seq > now.Seq && !r.wasAway(now.Node, now.Began):
			r.broken("I06 order", fmt.Sprintf("%d of key %s starts after %d", now.Seq, now.Order, b.Seq))
		}
	}
}

func (r *Recorder) checkLimit(now *Run) {
	r.byLimit[now.Limit] = slices.DeleteFunc(r.byLimit[now.Limit], func(b *Run) bool { return !r.open(b) || r.mayRepeat(b) })
	if n := len(r.byLimit[now.Limit]) + 1; n > now.Most {
		r.broken("concurrency per key", fmt.Sprintf("%d runs of key %s at one time, %d are allowed", n, now.Limit, now.Most))
	}
}

func (r *Recorder) end(e endReport) {
	i, err := strconv.Atoi(e.Token)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || i < 0 || i >= len(r.all) {
		return
	}
	r.all[i].Ended, r.all[i].Outcome = time.Now(), e.Outcome
}

// history tells what was seen of an entry. Called with mu held.
func (r *Recorder) history(id string) string {
	text := ""
	for _, run := range r.byID[id] {
		ended := "open"
		if !run.Ended.IsZero() {
			ended = run.Outcome + " after " + run.Ended.Sub(run.Began).String()
		}
		text += fmt.Sprintf("[%d on node %d, engine %d, at %s, %s]", run.Attempt, run.Node, run.Engine,
			run.Began.Format("05.000"), ended)
	}
	return text
}

// excuse tells of a node process that others have to take over from, or that gives back what it runs.
func (r *Recorder) excuse(node int, change func(*excuse)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.excused[node]
	change(&e)
	r.excused[node] = e
}

// runningOn returns the runs of a node, or of an engine process, that have not ended.
func (r *Recorder) runningOn(pid int) []*Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	var runs []*Run
	for _, run := range r.all {
		if (run.Node == pid || run.Engine == pid) && run.Ended.IsZero() {
			runs = append(runs, run)
		}
	}
	return runs
}

// lastEngine returns the engine process of a node that began a run last.
func (r *Recorder) lastEngine(node int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, run := range slices.Backward(r.all) {
		if run.Node == node {
			return run.Engine
		}
	}
	return 0
}

// firstAfter returns when the first run began after a time that has the property, and what is closed at the next start.
func (r *Recorder) firstAfter(t time.Time, has func(*Run) bool) (time.Time, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var first time.Time
	for _, run := range slices.Backward(r.all) {
		if run.Began.Before(t) {
			break
		}
		if has(run) {
			first = run.Began
		}
	}
	return first, r.started
}

// overdue returns runs that go on longer than their time and what a process takes to be ended, on nodes that are in touch.
func (r *Recorder) overdue(limit time.Duration) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var late []string
	for _, run := range r.all[max(0, len(r.all)-20_000):] {
		if run.Ended.IsZero() && time.Since(run.Began) > limit && !r.mayRepeat(run) && r.open(run) {
			late = append(late, r.history(run.ID))
		}
	}
	return late
}

// of returns the runs of an entry in the order in which they began.
func (r *Recorder) of(id string) []Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	runs := make([]Run, 0, len(r.byID[id]))
	for _, run := range r.byID[id] {
		runs = append(runs, *run)
	}
	return runs
}

// await waits for the first run after a time that has the property, and returns when that began; where there is none
// before ctx ends, when that was.
func (r *Recorder) await(ctx context.Context, t time.Time, has func(*Run) bool) time.Time {
	for {
		first, next := r.firstAfter(t, has)
		if !first.IsZero() {
			return first
		}
		select {
		case <-next:
		case <-ctx.Done():
			return time.Now()
		}
	}
}

// ids returns every entry of which a run was seen.
func (r *Recorder) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.byID))
}

// tell returns the history of an entry.
func (r *Recorder) tell(id string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.history(id)
}

// actions returns how often a failpoint has killed.
func (r *Recorder) actions(point string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.acted[point+"=kill"]
}

// entries returns how many entries of a nonce have run.
func (r *Recorder) entries(nonce string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := map[string]bool{}
	for _, run := range r.byNonce[nonce] {
		ids[run.ID] = true
	}
	return len(ids)
}
