// Package failpoint lets a test stop, delay or kill the product at named points, so that what happens between two steps
// is tried and not hoped for. Off, as in every release, a point costs one atomic load.
//
// Only a test binary turns points on, by Enable or Block: the product itself has no setting and no variable for it.
package failpoint

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The points, in the order in which an event passes them.
const (
	HTTPAccepted     = "http.accepted"     // a request has its entry, nothing is written
	OutboxInserted   = "outbox.inserted"   // an INSERT is about to be sent
	OutboxCommitted  = "outbox.committed"  // an INSERT is committed, nobody was told
	OutboxClaimed    = "outbox.claimed"    // a claim is committed, nothing has started
	RunStarted       = "run.started"       // an attempt has a slot and begins
	EnginePicked     = "engine.picked"     // a process is about to be given the run
	HostCallBefore   = "host.call.before"  // a script has called a host service
	HostCallAfter    = "host.call.after"   // the call is done, the script does not know
	DataChanged      = "data.changed"      // data has changed in a transaction, what that leads to is not written
	DataCaused       = "data.caused"       // that is written, too, nothing is committed
	DataCommitted    = "data.committed"    // it is committed, the script does not know
	SourceReceived   = "source.received"   // a source has sent events, nothing is written
	SourceCommitted  = "source.committed"  // they are committed with the cursor, the source does not know
	SourceAcked      = "source.acked"      // the source is about to know
	UnitChecked      = "unit.checked"      // what a transactional run has read is locked and as it was
	UnitApplied      = "unit.applied"      // what it writes and sends is written, nothing is committed
	UnitSettled      = "unit.settled"      // so is how it ended
	UnitCommitted    = "unit.committed"    // all of it is committed, nobody was told
	RunReturned      = "run.returned"      // the script has returned
	ReplyDelivered   = "reply.delivered"   // the waiting caller has been given the answer
	FinishBuffered   = "finish.buffered"   // the end waits for its flush
	FinishCommitted  = "finish.committed"  // a flush is committed
	RetryScheduled   = "retry.scheduled"   // a flush with a retry is committed
	DeadCommitted    = "dead.committed"    // a flush with a dead letter is committed
	GateLocked       = "gate.locked"       // the gates of a write are locked
	GateFilled       = "gate.filled"       // a freed place at a gate was given to the next
	DetachCommitted  = "detach.committed"  // a sync run has become one that nobody waits for
	HeartbeatWritten = "heartbeat.written" // a heartbeat is committed
	SweepSelected    = "sweep.selected"    // the entries of dead nodes are about to be taken over
	SweepUpdated     = "sweep.updated"     // they have been
	ShutdownDraining = "shutdown.draining" // a shutdown has begun: nothing is accepted any more
)

// Names are all points.
var Names = []string{
	HTTPAccepted, OutboxInserted, OutboxCommitted, OutboxClaimed, RunStarted, EnginePicked, HostCallBefore, HostCallAfter,
	DataChanged, DataCaused, DataCommitted, SourceReceived, SourceCommitted, SourceAcked, UnitChecked, UnitApplied, UnitSettled, UnitCommitted,
	RunReturned, ReplyDelivered, FinishBuffered, FinishCommitted, RetryScheduled, DeadCommitted, GateLocked, GateFilled,
	DetachCommitted, HeartbeatWritten, SweepSelected, SweepUpdated, ShutdownDraining,
}

// ErrInjected is what a point with the action error gives.
var ErrInjected = errors.New("failpoint: injected error")

// on is whether any point does anything.
var on atomic.Bool

var (
	mu     sync.Mutex
	points = map[string]*point{}
	random *rand.Rand
	ended  func(name, action string) // told before a point acts
)

// point is what one name does.
type point struct {
	action string        // "" while only Block uses it
	pause  time.Duration // of a sleep
	from   int           // it acts from this hit on, once; zero: always
	chance float64       // of acting at each hit; zero: always
	hits   int
	blocks []*block
}

// Hit is a point where nothing can be returned: an error there is a panic.
func Hit(name string) {
	if on.Load() {
		if err := act(name); err != nil {
			panic(err)
		}
	}
}

// Err is a point of a step that can fail.
func Err(name string) error {
	if on.Load() {
		return act(name)
	}
	return nil
}

// Enable turns points on: "name=action" parted by semicolons. The actions are kill (SIGKILL to this process), sleep(50ms),
// error, panic and pause (until Release). A trailing "@3" has it happen once, at the third hit, and "@p0.1" at every tenth
// by chance, which seed decides. It replaces what was enabled before, but for blocks.
func Enable(spec string, seed uint64) error {
	fresh := map[string]*point{}
	for rule := range strings.SplitSeq(spec, ";") {
		if rule = strings.TrimSpace(rule); rule == "" {
			continue
		}
		name, action, ok := strings.Cut(rule, "=")
		if !ok || !slices.Contains(Names, name) {
			return fmt.Errorf("failpoint %q: want name=action with one of the names %s", rule, strings.Join(Names, ", "))
		}
		p, err := parse(action)
		if err != nil {
			return fmt.Errorf("failpoint %s: %w", name, err)
		}
		fresh[name] = p
	}
	mu.Lock()
	defer mu.Unlock()
	for name, old := range points {
		if p := fresh[name]; p != nil {
			p.blocks = old.blocks
		} else if len(old.blocks) > 0 {
			fresh[name] = &point{blocks: old.blocks}
		}
	}
	points, random = fresh, rand.New(rand.NewPCG(seed, seed))
	on.Store(len(points) > 0)
	return nil
}

func parse(text string) (*point, error) {
	p := &point{}
	action, when, _ := strings.Cut(text, "@")
	p.action = action
	if argument, ok := strings.CutPrefix(action, "sleep("); ok {
		pause, err := time.ParseDuration(strings.TrimSuffix(argument, ")"))
		if err != nil {
			return nil, err
		}
		p.action, p.pause = "sleep", pause
	}
	if !slices.Contains([]string{"kill", "sleep", "error", "panic", "pause"}, p.action) {
		return nil, fmt.Errorf("action %q: want kill, sleep(duration), error, panic or pause", action)
	}
	if when == "" {
		return p, nil
	}
	var err error
	if chance, ok := strings.CutPrefix(when, "p"); ok {
		p.chance, err = strconv.ParseFloat(chance, 64)
	} else {
		p.from, err = strconv.Atoi(when)
	}
	if err != nil {
		return nil, fmt.Errorf("@%s: want the number of a hit, or p and a chance: %w", when, err)
	}
	return p, nil
}

// OnAct has f called before a point does what Enable says, so that a killed process can leave word.
func OnAct(f func(name, action string)) {
	mu.Lock()
	defer mu.Unlock()
	ended = f
}

// Hits returns how often each point that is on was passed.
func Hits() map[string]int {
	mu.Lock()
	defer mu.Unlock()
	hits := map[string]int{}
	for name, p := range points {
		hits[name] = p.hits
	}
	return hits
}

// Reset turns all points off and lets go whatever waits at them.
func Reset() {
	mu.Lock()
	defer mu.Unlock()
	for p := range maps.Values(points) {
		for _, b := range p.blocks {
			b.free()
		}
	}
	points = map[string]*point{}
	on.Store(false)
}

// block holds those who come to a point.
type block struct {
	reached chan struct{} // one signal per arrival
	gone    chan struct{} // closed by free
	once    sync.Once
}

func newBlock() *block { return &block{reached: make(chan struct{}, 1024), gone: make(chan struct{})} }

func (b *block) free() { b.once.Do(func() { close(b.gone) }) }

func (b *block) wait() {
	select {
	case b.reached <- struct{}{}:
	default:
	}
	<-b.gone
}

// Block holds everybody who comes to the point until release is called, which may be done more than once. Each arrival is
// a signal on reached. Blocks of one point are served in the order in which they were made.
func Block(name string) (reached <-chan struct{}, release func()) {
	if !slices.Contains(Names, name) {
		panic("failpoint: no point is called " + name)
	}
	b := newBlock()
	mu.Lock()
	defer mu.Unlock()
	p := points[name]
	if p == nil {
		p = &point{}
		points[name] = p
	}
	p.blocks = append(p.blocks, b)
	on.Store(true)
	return b.reached, func() {
		mu.Lock()
		defer mu.Unlock()
		if i := slices.Index(p.blocks, b); i >= 0 {
			p.blocks = slices.Delete(p.blocks, i, i+1)
		}
		b.free()
	}
}

// Release lets go what waits at a point because of the action pause, and ends that action.
func Release(name string) {
	mu.Lock()
	defer mu.Unlock()
	p := points[name]
	if p == nil || p.action != "pause" {
		return
	}
	p.action = ""
	for _, b := range p.blocks {
		b.free()
	}
	p.blocks = nil
}

// act does what the point is for at this hit.
func act(name string) error {
	action, pause, held := decide(name)
	for _, b := range held {
		b.wait()
	}
	switch action {
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	case "sleep":
		time.Sleep(pause)
	case "panic":
		panic("failpoint: " + name)
	case "error":
		return fmt.Errorf("%w at %s", ErrInjected, name)
	}
	return nil
}

// decide counts the hit and says what to do now.
func decide(name string) (action string, pause time.Duration, held []*block) {
	mu.Lock()
	defer mu.Unlock()
	p := points[name]
	if p == nil {
		return "", 0, nil
	}
	p.hits++
	held = slices.Clone(p.blocks)
	if p.action == "" || (p.from > 0 && p.hits != p.from) || (p.chance > 0 && random.Float64() >= p.chance) {
		return "", 0, held
	}
	if p.action == "pause" {
		b := newBlock()
		p.blocks = append(p.blocks, b)
		held = append(held, b)
	}
	if ended != nil {
		ended(name, p.action)
	}
	return p.action, p.pause, held
}
