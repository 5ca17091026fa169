package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"
)

// The writer and the settler against a database that fails in every way that one can: before the commit, after it, for the
// fault of one row, by being gone for a while; on a node whose lease comes and goes. Time is simulated.

// step is what the database does with one statement, or what happens to the lease before it.
type step int

const (
	works      step = iota
	loses           // the connection breaks before the commit
	swallows        // it breaks after the commit
	fences          // the lease runs out, then is renewed
	supersedes      // the epoch is lost, its rows are taken over, and the node joins again
	steps
)

// world is a database and a lease.
type world struct {
	mu      sync.Mutex // guards all of it
	script  []step
	at      int
	epoch   int64
	valid   bool
	live    int64 // the epoch as the database knows it
	bad     map[uuid.UUID]bool
	rows    map[uuid.UUID]int64 // owners of rows that are there
	writes  map[uuid.UUID]int   // how often a row came to be
	settled map[uuid.UUID]int
	taken   map[uuid.UUID]bool // by another node
}

func newWorld(script []step) *world {
	return &world{
		script: script, epoch: 1, live: 1, valid: true, bad: map[uuid.UUID]bool{}, rows: map[uuid.UUID]int64{},
		writes: map[uuid.UUID]int{}, settled: map[uuid.UUID]int{}, taken: map[uuid.UUID]bool{},
	}
}

func (w *world) Epoch() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.epoch
}

func (w *world) Valid() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.valid
}

var errLink = errors.New("the connection broke")

// next says what becomes of a statement.
func (w *world) next() step {
	if w.at >= len(w.script) {
		return works
	}
	w.at++
	switch s := w.script[w.at-1]; s {
	case fences:
		w.valid = false
		time.AfterFunc(time.Second, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.valid = w.live == w.epoch
		})
		return loses
	case supersedes:
		return swallows
	default:
		return s
	}
}

// after is what happens once the statement is through that before steps were used up for.
func (w *world) after(before int) {
	if w.at > before && w.script[before] == supersedes {
		for id := range w.rows {
			w.taken[id] = true
		}
		w.live++
		w.epoch, w.valid = w.live, true
	}
}

func (w *world) Insert(_ context.Context, owner int64, entries []*Entry, again bool) ([]error, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.after(w.at)
	s := w.next()
	if s == loses {
		return nil, errLink
	}
	for _, e := range entries {
		if w.bad[e.ID] {
			return nil, &Rejected{Err: fmt.Errorf("bad row %s", e.ID)}
		}
	}
	if owner != w.live {
		return nil, ErrFenced
	}
	for _, e := range entries {
		switch _, is := w.rows[e.ID]; {
		case !is:
			w.rows[e.ID] = owner
			w.writes[e.ID]++
		case !again:
			return nil, &Rejected{Err: errors.New("the row exists")}
		}
	}
	if s == swallows {
		return nil, errLink
	}
	return nil, nil
}

func (w *world) Settle(_ context.Context, owner int64, batch []*Settlement) (n int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.after(w.at)
	s := w.next()
	if s == loses {
		return 0, errLink
	}
	for _, x := range batch {
		if w.bad[x.Entry.ID] && !x.Lost {
			return 0, &Rejected{Err: fmt.Errorf("bad row %s", x.Entry.ID)}
		}
	}
	for _, x := range batch {
		if own, is := w.rows[x.Entry.ID]; is && own == owner && owner == w.live && !w.taken[x.Entry.ID] {
			if n++; x.Lost {
				w.rows[x.Entry.ID] = 0
				continue
			}
			delete(w.rows, x.Entry.ID)
			w.settled[x.Entry.ID]++
		}
	}
	if s == swallows {
		return 0, errLink
	}
	return n, nil
}

// entries makes n entries, of which the database refuses one.
func (w *world) entries(n, bad int) []*Entry {
	list := make([]*Entry, n)
	for i := range list {
		list[i] = newEntry()
		w.bad[list[i].ID] = i == bad
	}
	return list
}

func scripts() *rapid.Generator[[]step] {
	return rapid.SliceOfN(rapid.Map(rapid.IntRange(0, int(steps)-1), func(i int) step { return step(i) }), 0, 12)
}

// model runs f for many drawn worlds in simulated time. f says what is wrong.
func model(t *testing.T, f func(w *world, n, bad int) error) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) {
		script := scripts().Draw(rt, "script")
		n := rapid.IntRange(1, 20).Draw(rt, "entries")
		bad := rapid.IntRange(-1, n-1).Draw(rt, "bad")
		var err error
		synctest.Test(t, func(*testing.T) { err = f(newWorld(script), n, bad) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// Whatever happens, each caller is told once; who is told that an entry was accepted finds it stored, once, and owned by
// the epoch in which it was: an entry that others may have taken over is not the node's to run.
func TestWriterModel(t *testing.T) {
	t.Parallel()
	model(t, func(w *world, n, bad int) error {
		entries := w.entries(n, bad)
		writer := NewWriter(w, w, hclog.NewNullLogger())
		told := map[uuid.UUID]int{}
		var wrong error
		for i, e := range entries {
			if i%3 == 0 {
				synctest.Wait()
			}
			writer.Append(e, func(err error) {
				told[e.ID]++
				switch {
				case err == nil && w.writes[e.ID] == 0:
					wrong = fmt.Errorf("entry %d is accepted and not stored", i)
				case err == nil && w.taken[e.ID]:
					wrong = fmt.Errorf("entry %d is accepted as the node's own after others took it over", i)
				case w.bad[e.ID] && err == nil:
					wrong = fmt.Errorf("entry %d is accepted and was refused", i)
				}
			})
		}
		writer.Close()
		if len(told) != n {
			return fmt.Errorf("%d of %d callers were told", len(told), n)
		}
		for id, times := range told {
			if times != 1 || w.writes[id] > 1 {
				return fmt.Errorf("a caller was told %d times, its entry written %d times", times, w.writes[id])
			}
		}
		return wrong
	})
}

// Whatever happens, each settlement is through once and applies at most once; without a lost epoch it applies, but for
// one that the database refuses: that is left to the sweep, and costs no other.
func TestSettlerModel(t *testing.T) {
	t.Parallel()
	model(t, func(w *world, n, bad int) error {
		entries := w.entries(n, bad)
		for _, e := range entries {
			w.rows[e.ID] = 1
		}
		settler := NewSettler(w, w, 2*time.Millisecond, hclog.NewNullLogger())
		through := map[uuid.UUID]int{}
		for i, e := range entries {
			if i%3 == 0 {
				pause(settler.gather)
			}
			settler.Settle(&Settlement{Entry: e, Outcome: Succeeded}, func() { through[e.ID]++ })
		}
		settler.Close()
		if len(through) != n {
			return fmt.Errorf("%d of %d settlements are through", len(through), n)
		}
		for id, times := range through {
			want := 1
			if w.bad[id] {
				want = 0
			}
			kept := w.live == 1 && w.Valid()
			if times != 1 || w.settled[id] > want || kept && w.settled[id] != want {
				return fmt.Errorf("a settlement was through %d times and applied %d times", times, w.settled[id])
			}
			if owner, is := w.rows[id]; kept && is && owner != 0 {
				return errors.New("an entry is the node's for ever")
			}
		}
		return nil
	})
}
