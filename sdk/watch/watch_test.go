package watch

import (
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/sdk/fault"
)

// run is one that can be ended.
type run struct {
	waits  bool
	failed []*fault.Fault
}

func (r *run) Fail(f *fault.Fault) { r.failed = append(r.failed, f) }
func (r *run) Waits() bool         { return r.waits }

// newWatch makes a watch that looks only when it is told to.
func newWatch() *Watch { return &Watch{awake: true} }

func (r *run) ended(t *testing.T, says string) {
	t.Helper()
	switch {
	case says == "" && len(r.failed) > 0:
		t.Errorf("it was ended: %v", r.failed[0])
	case says != "" && (len(r.failed) == 0 || !strings.Contains(r.failed[0].Message, says)):
		t.Errorf("%v, not %q", r.failed, says)
	}
}

const mb = 1 << 20

func TestMemory(t *testing.T) {
	t.Parallel()
	w := newWatch()
	first, second, waiting := &run{}, &run{}, &run{waits: true}
	w.judge(used{live: 20 * mb}) // is nobody's
	w.Enter(waiting, Limits{Memory: mb})
	w.Enter(first, Limits{Memory: 30 * mb})
	w.Enter(second, Limits{})
	w.judge(used{live: 50 * mb})
	first.ended(t, "")
	w.judge(used{live: 51 * mb})
	first.ended(t, "more than 30 MB of memory")
	second.ended(t, "")
	waiting.ended(t, "")
}

// What was ended has time to unwind before somebody else is blamed for it, but not for ever.
func TestPatience(t *testing.T) {
	t.Parallel()
	w := newWatch()
	first, second := &run{}, &run{}
	w.Enter(first, Limits{})
	w.Enter(second, Limits{})
	w.judge(used{live: 200 * mb, heap: 200 * mb})
	first.ended(t, "more than 112 MB")
	w.Leave(first)
	for range patience {
		if busy, waiting := w.judge(used{live: 200 * mb, heap: 200 * mb}); !busy || !waiting {
			t.Fatal("it does not wait")
		}
	}
	second.ended(t, "")
	w.judge(used{live: 200 * mb, heap: 200 * mb})
	second.ended(t, "more than 112 MB")
}

// A run that has taken much and ended by itself, or for its deadline, leaves nothing to the next one either.
func TestWhatIsLeftByOthers(t *testing.T) {
	t.Parallel()
	for live, dirty := range map[uint64]bool{56 * mb: false, 57 * mb: true} {
		w := newWatch()
		first, beside, next := &run{}, &run{}, &run{}
		w.Enter(first, Limits{})
		w.Enter(beside, Limits{})
		w.judge(used{live: live})
		w.Leave(first)
		if w.dirty {
			t.Error("it would be collected while another run has its own")
		}
		w.judge(used{live: live})
		w.Leave(beside)
		if w.dirty != dirty {
			t.Errorf("%d MB: %t", live/mb, w.dirty)
		}
		w.Enter(next, Limits{})
		if w.dirty || w.heavy {
			t.Error("it is not collected")
		}
	}
}

// A run that has ended by a count of the engine's own, before anybody has looked, leaves nothing to the next one.
func TestSpent(t *testing.T) {
	t.Parallel()
	w := newWatch()
	first, next := &run{}, &run{}
	w.Enter(first, Limits{})
	w.Spent()
	w.Leave(first)
	if !w.dirty {
		t.Error("nothing would be collected")
	}
	w.Enter(next, Limits{})
	if w.dirty {
		t.Error("it is not collected")
	}
}

// What a run that was ended has left is not the fault of the next one, when there was none in between.
func TestWhatIsLeft(t *testing.T) {
	t.Parallel()
	w := newWatch()
	first, next := &run{}, &run{}
	w.Enter(first, Limits{})
	w.judge(used{live: 200 * mb})
	w.Leave(first)
	if busy, waiting := w.judge(used{live: 200 * mb}); busy || !waiting {
		t.Error("it does not wait")
	}
	w.Enter(next, Limits{})
	w.judge(used{live: 200 * mb})
	w.judge(used{live: 20 * mb})
	next.ended(t, "")
	w.judge(used{live: 200 * mb})
	next.ended(t, "more than 112 MB")
}

// Whoever takes more while it is waited for what was ended is ended, too.
func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	w := newWatch()
	first, second := &run{}, &run{}
	w.Enter(first, Limits{})
	w.Enter(second, Limits{})
	w.judge(used{live: 200 * mb, heap: 200 * mb})
	w.Leave(first)
	w.judge(used{live: 300 * mb, heap: 300 * mb})
	second.ended(t, "")
	w.judge(used{live: 451 * mb, heap: 451 * mb})
	second.ended(t, "more than 112 MB")
}

// A native call that was under way when its run was ended takes more until it is left: nobody else is blamed for that.
func TestTakenWhileLeaving(t *testing.T) {
	t.Parallel()
	w := newWatch()
	first, next := &run{}, &run{}
	w.Enter(first, Limits{})
	w.judge(used{live: 200 * mb, heap: 200 * mb})
	w.judge(used{live: 110 * mb, heap: 130 * mb}) // some of it is collected
	w.Leave(first)
	w.Enter(next, Limits{})
	w.judge(used{live: 400 * mb, heap: 400 * mb})
	next.ended(t, "")
	w.judge(used{live: 601 * mb, heap: 601 * mb})
	next.ended(t, "more than 112 MB")
}

func TestMoreThanTheDefault(t *testing.T) {
	t.Parallel()
	w := newWatch()
	large, small := &run{}, &run{}
	w.Enter(large, Limits{Memory: 300 * mb})
	w.Enter(small, Limits{})
	w.judge(used{live: 290 * mb, heap: 400 * mb})
	large.ended(t, "")
	w.judge(used{live: 290 * mb, heap: 430 * mb})
	large.ended(t, "300 MB")
	small.ended(t, "")
}

func TestStacks(t *testing.T) {
	t.Parallel()
	w := newWatch()
	r := &run{}
	w.Enter(r, Limits{})
	w.judge(used{stacks: stackLimit + 1})
	r.ended(t, "nested too deeply")
}

// Processor time is that of the runs that compute, in equal parts.
func TestProcessorTime(t *testing.T) {
	t.Parallel()
	w := newWatch()
	limited, free, waiting := &run{}, &run{}, &run{waits: true}
	w.Enter(waiting, Limits{CPU: time.Millisecond})
	w.Enter(limited, Limits{CPU: time.Second})
	w.Enter(free, Limits{})
	w.judge(used{cpu: 2 * time.Second})
	limited.ended(t, "")
	w.judge(used{cpu: time.Millisecond})
	limited.ended(t, "more than 1s of processor time")
	free.ended(t, "")
	waiting.ended(t, "")
}

// holder is a run that holds memory beside the heap.
type holder struct {
	run
	holds int
}

func (h *holder) Holds() int { return h.holds }

// Those that hold the most end, and no more of them than it takes.
func TestHolders(t *testing.T) {
	t.Parallel()
	w := newWatch()
	var runs []*holder
	for _, n := range []int{10 * mb, 40 * mb, 30 * mb, 44 * mb, 20 * mb} {
		runs = append(runs, &holder{holds: n})
		w.Enter(runs[len(runs)-1], Limits{Memory: 64 * mb})
	}
	for range 2 { // what was ended already is not counted
		w.judge(used{})
		for i, r := range runs {
			says := ""
			if i == 3 {
				says = "more than 112 MB of memory together, this one 44 MB"
			}
			r.ended(t, says)
		}
	}
}
