// Package watch ends the runs of an engine's process that take more memory or processor time than they may, before the process
// would end for it. It is for engines whose scripts can take memory faster than anything inside them counts.
package watch

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picloud/picloud/sdk/fault"
)

// Bounds on what the runs in a process take together. They end long before the process would: an endless recursion takes
// stackLimit within a tenth of a second, a loop that appends reaches the limit of memory in milliseconds.
const (
	// DefaultMemory is what a run may have where its limits do not say, in bytes of what was found to live: close to the
	// collector's limit it would do little but collect.
	DefaultMemory = 112 << 20

	stackLimit = 64 << 20 // bytes of stacks
)

// heap is how large the heap may be in which so much lives: with what is dead and not collected yet.
func heap(live int) int { return live * 10 / 7 }

// Bound is called by main, before engine.Serve. It sets the limits of the process that hold where the watch comes too late: a stack may have four times what the runs
// may have together, and the collector works harder the closer the heap comes to its limit, so that what is beyond it lives.
func Bound() {
	debug.SetMaxStack(4 * stackLimit)
	debug.SetMemoryLimit(int64(heap(DefaultMemory)) * 7 / 8)
}

const (
	watchEvery = 5 * time.Millisecond
	watchIdle  = 50 // looks without a run until the watch sleeps
)

// Run is what can be ended.
type Run interface {
	// Fail ends the run, for a reason that its author has to know: Invoke returns the fault. It must not block, and may be called
	// more than once.
	Fail(*fault.Fault)
	// Waits reports whether the run waits for the host, so that it takes nothing more.
	Waits() bool
}

// Holder is a Run that holds memory beside the heap, which no look at the heap shows.
type Holder interface {
	Run
	// Holds is how many bytes it holds. It must not block.
	Holds() int
}

// Limits are what one run may take. Zero fields: DefaultMemory, and as much processor time as there is.
type Limits struct {
	Memory int // bytes
	CPU    time.Duration
}

// Watch looks at the process while there are runs. What one of them takes cannot be told from what others do: of memory the one
// that has been at it for the longest is ended, but for those that wait, and processor time is divided among those that do not
// wait. The zero Watch is ready. Safe for concurrent use.
type Watch struct {
	// Room is what the engine's own things may take beside its runs, in bytes, such as compiled code. Zero where that is little.
	Room int

	mu    sync.Mutex
	runs  []*watched // the first began first
	awake bool
	left  int       // looks for which what was ended last is waited for
	taken uint64    // bytes that the process had when it was ended
	gone  bool      // it has left since the last look: what it took in a native call that went on is part of taken
	dirty bool      // what a run has left is not collected yet, and is enough to blame the next one for
	heavy bool      // much lived at the last look
	last  time.Time // when a run was ended
	most  int       // the largest limit of memory that there was
	base  uint64    // bytes that lived when there was no run
}

// watched is one run under way.
type watched struct {
	Run
	limits Limits
	cpu    time.Duration
	ended  bool // it held too much
	failed bool // it was blamed for what the process has taken
}

// Enter begins to look at a run, until Leave. After one that has taken much it first has that collected: until then nobody could tell what
// the next one takes, and the process has room for one at a time.
func (w *Watch) Enter(r Run, l Limits) {
	if l.Memory <= 0 {
		l.Memory = DefaultMemory
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dirty {
		w.dirty = false
		w.mu.Unlock()
		runtime.GC()
		w.mu.Lock()
	}
	if w.most = max(w.most, l.Memory); w.most > DefaultMemory {
		debug.SetMemoryLimit(int64(heap(w.most+w.Room)) * 7 / 8)
	}
	w.runs = append(w.runs, &watched{Run: r, limits: l})
	if !w.awake {
		w.awake = true
		go w.look()
	}
}

// Leave ends what Enter began.
func (w *Watch) Leave(r Run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.IndexFunc(w.runs, func(x *watched) bool { return x.Run == r }); i >= 0 {
		if w.runs[i].failed {
			w.gone, w.dirty = true, true
		}
		w.runs = slices.Delete(w.runs, i, i+1)
		if w.heavy && len(w.runs) == 0 { // it has ended by itself, or for another reason
			w.heavy, w.dirty = false, true
		}
	}
}

// Spent says that a run is about to end for what it took, by a count of the engine's own: what it leaves, which may not have been looked at,
// is collected before the next one.
func (w *Watch) Spent() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirty = true
}

// Ended reports whether a run was ended for its memory within the last moments: a native call that it was in may go on, and what that
// takes is taken for somebody else's.
func (w *Watch) Ended() bool {
	const moments = 5 * time.Second
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.last) < moments
}

// used is what the process has taken.
type used struct {
	heap, live, stacks uint64 // bytes
	cpu                time.Duration
}

// look looks at the process while there are runs.
func (w *Watch) look() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"},
	}
	spent := processorTime()
	var collecting atomic.Bool
	for idle := 0; ; <-tick.C {
		if idle++; idle > watchIdle && w.sleep() {
			return
		}
		metrics.Read(samples)
		now := processorTime()
		u := used{samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64(), now - spent}
		spent = now
		busy, waiting := w.judge(u)
		if busy {
			idle = 0
		}
		if waiting && collecting.CompareAndSwap(false, true) {
			go func() { // beside the looks: a run may take gigabytes while the collector is at it
				runtime.GC() // it makes stacks half as large at a time
				collecting.Store(false)
			}()
		}
	}
}

// sleep ends the watch unless a run has begun.
func (w *Watch) sleep() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awake = len(w.runs) > 0
	return !w.awake
}

// patience is how many looks what was ended has to unwind and be collected, which takes seconds where the machine is busy. Until
// then nobody else is blamed for it, unless more and more is taken: by half as much again.
const patience = 1000

// judge ends the run that takes too much, if there is one. It reports whether there is a run, and whether what was ended may
// not be gone yet.
func (w *Watch) judge(u used) (busy, waiting bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		w.taken, w.left, w.gone = max(w.taken, u.heap+u.stacks), patience, false
	}
	if len(w.runs) == 0 {
		if w.left--; w.left >= 0 && w.excess(&watched{limits: Limits{Memory: w.most}}, u) != nil {
			return false, true // the next run shall not be blamed for it
		}
		w.base, w.left = u.live, 0
		return false, false
	}
	w.heavy = u.live > w.base+DefaultMemory/2
	w.charge(u.cpu)
	w.weigh()
	guilty := w.runs[max(0, slices.IndexFunc(w.runs, func(x *watched) bool { return !x.Waits() }))]
	f := w.excess(guilty, u)
	if f == nil {
		w.left = 0
		return true, false
	}
	taken := u.heap + u.stacks
	if w.left--; w.left >= 0 && taken <= w.taken/2*3 {
		return true, true
	}
	guilty.Fail(f)
	guilty.failed = true
	w.last = time.Now()
	w.left, w.taken = patience, taken
	return true, false
}

// charge divides processor time among the runs that do not wait, and ends those that have had theirs. w.mu is held.
func (w *Watch) charge(spent time.Duration) {
	var busy []*watched
	for _, x := range w.runs {
		if !x.Waits() {
			busy = append(busy, x)
		}
	}
	for _, x := range busy {
		x.cpu += spent / time.Duration(len(busy))
		if limit := x.limits.CPU; limit > 0 && x.cpu > limit {
			x.Fail(fault.New(fault.Limit, fault.Script, "the script takes more than %s of processor time", limit))
		}
	}
}

// weigh ends the runs that hold the most beside the heap, until the others hold no more together than one of them may. What was
// ended gives back what it held in its own time. w.mu is held.
func (w *Watch) weigh() {
	type weighed struct {
		*watched
		held int
	}
	var all []weighed
	held, limit := 0, DefaultMemory
	for _, x := range w.runs {
		if h, ok := x.Run.(Holder); ok && !x.ended {
			all = append(all, weighed{x, h.Holds()})
			held += all[len(all)-1].held
			limit = max(limit, x.limits.Memory)
		}
	}
	if held <= limit {
		return
	}
	slices.SortFunc(all, func(a, b weighed) int { return b.held - a.held })
	for _, x := range all {
		if held <= limit {
			return
		}
		x.Fail(fault.New(fault.Limit, fault.Script, "the scripts of the app take more than %d MB of memory together, this one %d MB",
			limit>>20, x.held>>20))
		x.ended = true
		held -= x.held
	}
}

// excess is the fault of x, which of all runs may have taken what u says; nil: all is well. w.mu is held.
func (w *Watch) excess(x *watched, u used) *fault.Fault {
	if u.stacks > stackLimit {
		return fault.New(fault.Limit, fault.Script, "the script's calls are nested too deeply: its stacks take more than %d MB", stackLimit>>20)
	}
	// What it may have of its own, or all that the process is made for: several runs may take that together.
	for _, live := range []int{x.limits.Memory + int(w.base) + w.Room, w.most + w.Room} {
		if u.live > uint64(live) || u.heap > uint64(heap(live)) {
			return fault.New(fault.Limit, fault.Script, "the script takes more than %d MB of memory", x.limits.Memory>>20)
		}
	}
	return nil
}
