package postgres_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
)

// finished checks that an entry has left the outbox and has one final record.
func (r *races) finished(e *outbox.Entry) {
	r.Helper()
	r.want(e, "none")
	if n := r.finals(e); n != 1 {
		r.Errorf("%d final records", n)
	}
}

// runOn has a node claim the entry and end it well.
func (r *races) runOn(owner int64, e *outbox.Entry) {
	r.Helper()
	claimed := r.claim(owner, e)
	if len(claimed) != 1 {
		r.Fatalf("claimed %d", len(claimed))
	}
	if n := r.settle(owner, claimed[0], outbox.Succeeded); n != 1 {
		r.Fatalf("settled %d", n)
	}
}

// A node is evicted and swept while its INSERT is under way: what then commits belongs to nobody, and the next sweep finds it.
func TestInsertCommitsAfterItsEpochWasSwept(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	e := r.entry(outbox.Running)
	r.before("INSERT", "outbox")
	r.close(1)
	done := async(func() error { return r.insert(here, false, e) })
	r.waiting(1)
	r.die(here)
	if freed, ended := r.sweep(); freed+ended != 0 {
		t.Fatalf("a sweep found %d and %d before the commit", freed, ended)
	}
	r.release(1)
	r.must(<-done)
	if freed, ended := r.sweep(); freed != 1 || ended != 0 {
		t.Fatalf("the next sweep freed %d and ended %d", freed, ended)
	}
	r.runOn(there, e)
	r.finished(e)
}

// The answer to an INSERT is lost, and another node runs the entry and deletes it before the first repeats: the repeat must
// find it done, wherever between two of its own steps the other comes.
func TestRepeatedInsertOfAnEntryThatHasEnded(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]bool{"before the repeat": false, "between its look and its write": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRaces(t)
			e := r.entry(outbox.Ready)
			r.must(r.insert(here, false, e))
			if !between {
				r.runOn(there, e)
				r.must(r.insert(here, true, e))
				r.finished(e)
				return
			}
			r.before("INSERT", "outbox") // the statement has its snapshot by then, and has not looked for the row yet
			r.close(1)
			done := async(func() error { return r.insert(here, true, e) })
			r.waiting(1)
			r.runOn(there, e)
			r.release(1)
			r.must(<-done)
			r.finished(e)
		})
	}
}

// A node that was evicted ends an entry while another sweeps: one of the two has it.
func TestSweepRacesAFinish(t *testing.T) {
	t.Parallel()
	t.Run("the finish is first", func(t *testing.T) {
		t.Parallel()
		r := newRaces(t)
		e := r.entry(outbox.Running)
		r.must(r.insert(here, false, e))
		r.before("DELETE", "outbox")
		r.close(1)
		var applied int64
		done := async(func() (err error) {
			applied, err = r.store.Settle(context.Background(), here, []*outbox.Settlement{{Entry: e, Outcome: outbox.Succeeded}})
			return err
		})
		r.waiting(1)
		r.die(here)
		if freed, ended := r.sweep(); freed+ended != 0 {
			t.Errorf("the sweep took what is being finished: %d, %d", freed, ended)
		}
		r.release(1)
		r.must(<-done)
		if applied != 1 {
			t.Errorf("the finish applied to %d", applied)
		}
		r.finished(e)
	})
	t.Run("the sweep is first", func(t *testing.T) {
		t.Parallel()
		r := newRaces(t)
		e := r.entry(outbox.Running)
		r.must(r.insert(here, false, e))
		r.exec(`UPDATE outbox SET owner = $1`, here+100) // as if the node were gone, while it believes that it is not
		r.before("UPDATE", "outbox")
		r.close(1)
		done := async(func() error { _, _, _, err := r.store.Sweep(context.Background()); return err })
		r.waiting(1)
		if n := r.settle(here, e, outbox.Succeeded); n != 0 {
			t.Errorf("the finish applied to %d", n)
		}
		r.release(1)
		r.must(<-done)
		r.want(e, "state 1 attempt 1")
		r.runOn(there, e)
		r.finished(e)
	})
}

// A settlement of an attempt comes after the entry was taken over and claimed again.
func TestLateFinishOfAnEarlierAttempt(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	e := r.entry(outbox.Running)
	r.must(r.insert(here, false, e))
	r.die(here)
	r.sweep()
	second := r.claim(there, e)[0]
	for _, owner := range []int64{here, there} {
		if n := r.settle(owner, e, outbox.Succeeded); n != 0 {
			t.Errorf("the first attempt ended the second, as %d", owner)
		}
	}
	if n := r.settle(there, second, outbox.Succeeded); n != 1 {
		t.Errorf("settled %d", n)
	}
	r.finished(e)
}

// gated makes entries of one ordering key.
func (r *races) gated(n int) []*outbox.Entry {
	first := r.entry(outbox.Ready)
	list := []*outbox.Entry{first}
	for len(list) < n {
		e := r.entry(outbox.Ready)
		e.App, e.Lane, e.Target = first.App, first.Lane, first.Target
		list = append(list, e)
	}
	for _, e := range list {
		e.Gate, e.GateLimit = outbox.OrderGate("k"), 1
	}
	return list
}

// orphans counts those that wait at a gate with room, letting them through.
func (r *races) orphans() int {
	r.Helper()
	n, err := r.store.MendGates(r.Context())
	r.must(err)
	return n
}

// An entry comes to a gate while the one before it leaves: whichever is first, the new one gets through.
func TestFinishRacesANewEntryAtAGate(t *testing.T) {
	t.Parallel()
	for name, finishFirst := range map[string]bool{"the finish is first": true, "the new entry is first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRaces(t)
			list := r.gated(2)
			before, after := list[0], list[1]
			r.must(r.insert(here, false, before))
			claimed := r.claim(here, before)[0]
			finish := func() error {
				n, err := r.store.Settle(context.Background(), here, []*outbox.Settlement{{Entry: claimed, Outcome: outbox.Succeeded}})
				if err == nil && n != 1 {
					return fmt.Errorf("settled %d", n)
				}
				return err
			}
			come := func() error { return r.insert(there, false, after) }
			first, second, event := finish, come, "DELETE"
			if !finishFirst {
				first, second, event = come, finish, "INSERT"
			}
			r.before(event, "outbox")
			r.close(1)
			one := async(first)
			r.waiting(1)
			two := async(second)
			r.blocked() // the second waits for the gate, whatever it would have seen without it
			r.release(1)
			r.must(<-one)
			r.must(<-two)
			r.want(after, "state 1 attempt 0")
			if n := r.orphans(); n != 0 {
				t.Errorf("%d orphans", n)
			}
			r.runOn(there, after)
			r.finished(after)
		})
	}
}

// An idle gate is forgotten while an entry comes to it.
func TestDroppedGateRacesANewEntry(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	list := r.gated(2)
	r.must(r.insert(here, false, list[0]))
	r.runOn(here, list[0])
	r.before("DELETE", "gates")
	r.close(1)
	done := async(func() error { _, err := r.store.MendGates(context.Background()); return err })
	r.waiting(1)
	come := async(func() error { return r.insert(there, false, list[1]) })
	r.blocked()
	r.release(1)
	r.must(<-done)
	r.must(<-come)
	r.runOn(there, list[1])
	r.finished(list[1])
}

// cancelDuring cancels an entry while another, which is held before its write, changes it. It reports whether it ended.
func (r *races) cancelDuring(e *outbox.Entry, other <-chan error) (ended bool) {
	r.Helper()
	r.waiting(1)
	cancelled := async(func() (err error) {
		ended, err = postgres.NewEntryStore(r.pool).Cancel(context.Background(), uuid.Nil, e.App, e.ID)
		return err
	})
	r.blocked()
	r.release(1)
	r.must(<-other)
	r.must(<-cancelled)
	return ended
}

// Somebody cancels an entry while a node claims it: it is stopped where it runs, or never starts.
func TestCancelRacesAClaim(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	e := r.entry(outbox.Ready)
	r.must(r.insert(here, false, e))
	r.before("UPDATE", "outbox")
	r.close(1)
	claimed := async(func() error {
		got, err := r.store.Claim(context.Background(), here, []outbox.Quota{{LaneKey: outbox.LaneKey{App: e.App, Lane: e.Lane}, Count: 1}})
		if err == nil && len(got) != 1 {
			return fmt.Errorf("claimed %d", len(got))
		}
		return err
	})
	ended := r.cancelDuring(e, claimed)
	if ended {
		t.Error("an entry that runs was ended")
	}
	if ids, err := r.store.Cancelled(t.Context(), here); err != nil || len(ids) != 1 {
		t.Errorf("the node is asked to stop %v, %v", ids, err)
	}
}

// Somebody cancels an entry while it becomes due.
func TestCancelRacesAPromotion(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	e := r.entry(outbox.Scheduled)
	r.must(r.insert(here, false, e))
	r.before("UPDATE", "outbox")
	r.close(1)
	promoted := async(func() error { _, _, err := r.store.Promote(context.Background()); return err })
	ended := r.cancelDuring(e, promoted)
	if !ended {
		t.Error("an entry that waits was not ended")
	}
	r.finished(e)
}

// Two nodes sweep at once: each entry is freed once.
func TestTwoSweepsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRaces(t)
	var list []*outbox.Entry
	for range 20 {
		list = append(list, r.entry(outbox.Running))
	}
	r.must(r.insert(here, false, list...))
	r.die(here)
	freed := make(chan int, 2)
	sweep := func() error {
		n, _, _, err := r.store.Sweep(context.Background())
		freed <- n
		return err
	}
	one, two := async(sweep), async(sweep)
	r.must(<-one)
	r.must(<-two)
	if n := <-freed + <-freed; n != len(list) {
		t.Errorf("freed %d of %d", n, len(list))
	}
	for _, e := range list {
		r.want(e, "state 1 attempt 1")
	}
}
