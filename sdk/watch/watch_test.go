package watch

import (
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/picloud/picloud/sdk/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// holder is a run that holds what a test says.
type holder struct {
	holds  int
	failed atomic.Pointer[fault.Fault]
}

func (h *holder) Fail(f *fault.Fault) { h.failed.Store(f) }
func (h *holder) Waits() bool         { return false }
func (h *holder) Holds() int          { return h.holds }

// Those that hold the most end, and no more of them than it takes.
func TestHolders(t *testing.T) {
	t.Parallel()
	var w Watch
	sizes := []int{10 << 20, 40 << 20, 30 << 20, 44 << 20, 20 << 20}
	runs := make([]*holder, len(sizes))
	for i, n := range sizes {
		runs[i] = &holder{holds: n}
		w.runs = append(w.runs, runs[i])
	}
	for range 2 { // what was ended already is not counted
		w.weigh()
		for i, r := range runs {
			f := r.failed.Load()
			if (f != nil) != (i == 3) || f != nil && (f.Kind != fault.Limit || f.Origin != fault.Script) {
				t.Errorf("%d: %+v", i, f)
			}
		}
	}
	w.Leave(runs[3])
	if len(w.ended) != 0 || len(w.runs) != 4 {
		t.Errorf("%d, %d", len(w.ended), len(w.runs))
	}
}
