// Package watch ends the runs of an engine's process that take more memory than they may, before the process would end for
// it. It is for engines whose scripts can take memory faster than anything inside them counts.
package watch

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"sync"
	"time"

	"github.com/picloud/picloud/sdk/fault"
)

// Bounds on what the runs in a process take together. They end long before the process would: an endless recursion takes
// stackLimit within a tenth of a second, a loop that appends reaches heapLimit in milliseconds.
const (
	heapLimit  = 160 << 20 // bytes of living objects, and of dead ones that are not collected yet
	liveLimit  = 112 << 20 // bytes of what was found to live; close to the collector's limit it would do little but collect
	stackLimit = 64 << 20  // bytes of stacks
)

// Bound sets the limits of the process that hold where the watch comes too late: a stack may have four times what the runs
// may have together, and the collector works harder the closer the heap comes to its limit, so that what is beyond it lives.
func Bound() {
	debug.SetMaxStack(4 * stackLimit)
	debug.SetMemoryLimit(heapLimit * 7 / 8)
}

const (
	watchEvery = 5 * time.Millisecond
	watchIdle  = 50 // looks without a run until the watch sleeps
)

// Run is what can be ended.
type Run interface {
	// Fail ends the run, for a reason that its author has to know. It must not block.
	Fail(*fault.Fault)
	// Waits reports whether the run waits for the host, so that it takes nothing more.
	Waits() bool
}

// Watch looks at the memory of the process while there are runs. What one of them takes cannot be told from what others do,
// so it ends the one that has been at it for the longest, but for those that wait. The zero Watch is ready. Safe for concurrent
// use.
type Watch struct {
	// Room is what the engine's own things may take beside its runs, in bytes, such as compiled code. Zero where that is little.
	Room uint64

	mu    sync.Mutex
	runs  []Run // the first began first
	awake bool
	left  int // looks for which what was ended last is waited for
}

// Enter begins to look at a run, until Leave.
func (w *Watch) Enter(r Run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs = append(w.runs, r)
	if !w.awake {
		w.awake = true
		go w.look()
	}
}

// Leave ends what Enter began.
func (w *Watch) Leave(r Run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.runs, r); i >= 0 {
		w.runs = slices.Delete(w.runs, i, i+1)
	}
}

// look looks at the process while there are runs.
func (w *Watch) look() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	used := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"},
	}
	for idle := 0; ; <-tick.C {
		if idle++; w.busy() {
			idle = 0
		}
		if idle > watchIdle && w.sleep() {
			return
		}
		if idle > 0 {
			continue
		}
		metrics.Read(used)
		f := w.excess(used[0].Value.Uint64(), used[1].Value.Uint64(), used[2].Value.Uint64())
		if f != nil && w.forgive() {
			runtime.GC() // it makes stacks half as large at a time
			continue
		}
		w.judge(f)
	}
}

// excess is the fault of whoever takes too much; nil: all is well.
func (w *Watch) excess(heap, live, stacks uint64) *fault.Fault {
	switch {
	case stacks > stackLimit:
		return fault.New(fault.Limit, fault.Script, "the script's calls are nested too deeply: its stacks take more than %d MB", stackLimit>>20)
	case heap > heapLimit+w.Room, live > liveLimit+w.Room:
		return fault.New(fault.Limit, fault.Script, "the script takes more than %d MB of memory", (liveLimit+w.Room)>>20)
	}
	return nil
}

func (w *Watch) busy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.runs) > 0
}

// sleep ends the watch unless a run has begun.
func (w *Watch) sleep() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awake = len(w.runs) > 0
	return !w.awake
}

// patience is how many looks what was ended has to unwind and be collected. Until then nobody else is blamed for it.
const patience = 100

// forgive reports whether an excess may be of what was ended already.
func (w *Watch) forgive() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left--
	return w.left >= 0
}

// judge ends a run for f; nil: what was ended is gone.
func (w *Watch) judge(f *fault.Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f == nil || len(w.runs) == 0 {
		w.left = 0
		return
	}
	guilty := max(0, slices.IndexFunc(w.runs, func(r Run) bool { return !r.Waits() }))
	w.runs[guilty].Fail(f)
	w.left = patience
}
