package dispatcher_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/dispatcher"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// calls makes a callee of an entry, waits for it, and says how it failed.
func (b *bundle) calls(ctx context.Context, from *outbox.Entry) error {
	e := entry()
	e.App, e.RootID, e.Depth, e.ReplyTo = from.App, from.RootID, from.Depth+1, uuid.New()
	w := b.runs.inbox.Register(e.ReplyTo)
	defer w.Close()
	if err := b.CallFrom(ctx, e, from); err != nil {
		return err
	}
	part, err := w.Next(ctx, nil)
	if err == nil && part.Fault != nil {
		err = part.Fault
	}
	return err
}

// A run that waits for another one never keeps the slot that the other needs, however long the chain and however few slots.
func TestCalleesRunInTheSlotsOfTheirCallers(t *testing.T) {
	t.Parallel()
	for _, slots := range []int{1, 2, 8} {
		var b *bundle
		var running, most, ran atomic.Int64
		ready := make(chan struct{})
		b = setup(t, "", func(ctx context.Context, e *outbox.Entry) *fault.Fault {
			<-ready
			ran.Add(1)
			if e.Depth == 0 {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
			}
			if e.Depth == outbox.MaxDepth {
				return nil
			}
			return fault.From(b.calls(ctx, e))
		}, func(c *dispatcher.Config) { c.Slots = slots })
		close(ready)
		const roots = 12
		app := uuid.New()
		for range roots {
			e := entry()
			e.App = app
			if err := b.Append(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		coretest.Eventually(t, "the chains are through", func() bool { return left(t, b.pool) == 0 })
		if n := ran.Load(); n != roots*(outbox.MaxDepth+1) {
			t.Errorf("%d slots: %d runs", slots, n)
		}
		if most.Load() > int64(slots) {
			t.Errorf("%d slots: %d at one time", slots, most.Load())
		}
	}
}

// Calls of one run at one time take turns where there is no free slot.
func TestCalleesOfOneRunTakeTurns(t *testing.T) {
	t.Parallel()
	var b *bundle
	var running, most atomic.Int64
	ready := make(chan struct{})
	b = setup(t, "", func(ctx context.Context, e *outbox.Entry) *fault.Fault {
		<-ready
		if e.Depth > 0 {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			return nil
		}
		var all sync.WaitGroup
		var failed atomic.Pointer[fault.Fault]
		for range 16 {
			all.Go(func() {
				if err := b.calls(ctx, e); err != nil {
					failed.Store(fault.From(err))
				}
			})
		}
		all.Wait()
		return failed.Load()
	}, func(c *dispatcher.Config) { c.Slots = 1 })
	close(ready)
	e := entry()
	if err := b.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	coretest.Eventually(t, "all are through", func() bool { return left(t, b.pool) == 0 })
	if got := outcomes(t, b.pool, e.ID); len(got) != 1 || got[0] != outbox.Succeeded {
		t.Errorf("outcomes %v", got)
	}
	if most.Load() != 1 {
		t.Errorf("%d ran in one slot at one time", most.Load())
	}
}

// A callee ends with the run that waits for it, and the events of its chain are counted.
func TestCalleesEndWithTheirCallers(t *testing.T) {
	t.Parallel()
	var b *bundle
	ready, begun := make(chan struct{}), make(chan struct{})
	var ended atomic.Bool
	b = setup(t, "", func(ctx context.Context, e *outbox.Entry) *fault.Fault {
		<-ready
		if e.Depth == 0 {
			return fault.From(b.calls(ctx, e))
		}
		reply, err := b.runs.inbox.Reply(context.WithoutCancel(ctx), e.ReplyTo)
		if err != nil {
			return fault.From(err)
		}
		gone := make(chan struct{})
		reply.OnGone(func() { close(gone) })
		close(begun)
		<-gone
		ended.Store(true)
		return nil
	}, func(c *dispatcher.Config) { c.Slots = 1 })
	close(ready)
	e := entry()
	if err := b.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	<-begun
	if _, err := b.pool.Exec(t.Context(), `UPDATE outbox SET cancelled_at = now() WHERE id = $1`, e.ID); err != nil {
		t.Fatal(err)
	}
	coretest.Eventually(t, "both are gone", func() bool { return left(t, b.pool) == 0 })
	if !ended.Load() {
		t.Error("the callee runs on")
	}
	var events int
	if err := b.pool.QueryRow(t.Context(), `SELECT events FROM roots WHERE id = $1`, e.ID).Scan(&events); err != nil || events != 1 {
		t.Errorf("%d events, %v", events, err)
	}
}

// What is no run of this node cannot call.
func TestOnlyRunsCall(t *testing.T) {
	t.Parallel()
	b := setup(t, "", nil)
	e := entry()
	e.ReplyTo = uuid.New()
	if err := b.CallFrom(t.Context(), e, entry()); err == nil || errors.Is(err, inbox.ErrGone) || left(t, b.pool) != 0 {
		t.Error(err)
	}
}

// What is handed over runs at once or not at all, in no more slots than there are, and leaves nothing behind.
func TestHand(t *testing.T) {
	t.Parallel()
	script := tenant.Script{ID: uuid.New(), Name: "s"}
	lane := &tenant.Lane{ID: script.ID, App: uuid.New(), Script: &script}
	var entered atomic.Int64
	release := make(chan struct{})
	b := setup(t, "", func(context.Context, *outbox.Entry) *fault.Fault {
		entered.Add(1)
		<-release
		return fault.New(fault.ScriptError, fault.Script, "no luck")
	}, func(c *dispatcher.Config) {
		c.Slots, c.Alone = 4, func() bool { return true }
		c.Lane = func(id uuid.UUID) *tenant.Lane {
			if id == lane.ID {
				return lane
			}
			return nil
		}
	})
	hand := func(to uuid.UUID) bool {
		e := entry()
		e.App, e.Lane = lane.App, to
		taken, err := b.Hand(e)
		if err != nil {
			t.Error(err)
		}
		return taken
	}
	taken := 0
	for range 10 {
		if hand(lane.ID) {
			taken++
		}
	}
	if taken != 3 { // of async runs
		t.Errorf("%d were taken", taken)
	}
	if hand(uuid.New()) {
		t.Error("a lane that is gone takes something")
	}
	close(release)
	coretest.Eventually(t, "the slots are free", func() bool { return b.Stats().Async.Running == 0 })
	if s := b.Stats(); s.Handed != 3 || s.Dropped != 8 || entered.Load() != 3 {
		t.Errorf("%+v, %d entered", s, entered.Load())
	}
	var rows int
	if err := b.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM executions)`).Scan(&rows); err != nil || rows > 0 {
		t.Errorf("%d rows, %v", rows, err)
	}
	lane.Policy.Concurrency = 1
	release = make(chan struct{})
	if !hand(lane.ID) || hand(lane.ID) {
		t.Error("the limit of the lane does not hold")
	}
	close(release)
	lane.Paused = true
	if hand(lane.ID) {
		t.Error("a lane that is paused takes something")
	}
}

// What one event leads to is bounded where it is not written, too: as long as any of it runs.
func TestHandOfOneCause(t *testing.T) {
	t.Parallel()
	script := tenant.Script{ID: uuid.New(), Name: "s"}
	lane := &tenant.Lane{ID: script.ID, App: uuid.New(), Script: &script}
	root, release := uuid.New(), make(chan struct{})
	b := setup(t, "", func(_ context.Context, e *outbox.Entry) *fault.Fault {
		if e.Depth == 1 {
			<-release
		}
		return nil
	}, func(c *dispatcher.Config) {
		c.Slots, c.Alone, c.Lane = 4, func() bool { return true }, func(uuid.UUID) *tenant.Lane { return lane }
	})
	hand := func(root uuid.UUID, depth int) (bool, error) {
		e := entry()
		e.App, e.Lane, e.RootID, e.Depth = lane.App, lane.ID, root, depth
		return b.Hand(e)
	}
	if taken, err := hand(root, 1); !taken || err != nil {
		t.Fatal(taken, err)
	}
	handed := 1
	for {
		taken, err := hand(root, 2)
		if err != nil {
			if !errors.Is(err, outbox.ErrBudget) {
				t.Fatal(err)
			}
			break
		}
		if taken {
			handed++
			<-b.runs.seen
		} else {
			runtime.Gosched()
		}
	}
	if handed != outbox.MaxRootEvents {
		t.Errorf("%d were handed over", handed)
	}
	coretest.Eventually(t, "there is a slot", func() bool { return b.Stats().Async.Running == 1 })
	if taken, err := hand(uuid.New(), 2); !taken || err != nil {
		t.Errorf("another cause: %v, %v", taken, err)
	}
	close(release)
	coretest.Eventually(t, "all have ended", func() bool { return b.Stats().Async.Running == 0 })
	coretest.Eventually(t, "the cause may lead to more", func() bool { taken, err := hand(root, 2); return taken && err == nil })
}
