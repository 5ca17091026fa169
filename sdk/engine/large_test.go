package engine_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/fault"
)

// weigher is an engine that counts the large bodies that it has at one time.
type weigher struct {
	enginetest.Puppet
	now, most atomic.Int64
	gate      chan struct{}
}

func (w *weigher) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	if len(inv.Body) > 1<<20 {
		w.most.Store(max(w.most.Load(), w.now.Add(1)))
		defer w.now.Add(-1)
		select {
		case <-w.gate:
		case <-ctx.Done():
			return fault.New(fault.Deadline, fault.Script, "no time")
		}
	}
	return w.Puppet.Invoke(ctx, inv, out)
}

// Of bodies that are large together only some are in the process; small ones pass them by, and one that is given up makes room.
func TestLargeBodiesTakeTurns(t *testing.T) {
	t.Parallel()
	w := &weigher{gate: make(chan struct{})}
	c := enginetest.Dial(t, w)
	const callers, size = 8, 6 << 20
	body := "echo " + strings.Repeat("x", size)
	var all sync.WaitGroup
	given, giveUp := context.WithCancel(t.Context())
	for i := range callers {
		ctx := t.Context()
		if i%4 == 3 {
			ctx = given
		}
		all.Go(func() {
			var a enginetest.Answer
			err := c.Invoke(ctx, enginetest.Request(t, "b", body), &a)
			if ctx != given && (err != nil || len(a.Body()) != size) {
				t.Errorf("%d bytes, %v", len(a.Body()), err)
			}
		})
	}
	for w.now.Load() == 0 {
		if err := c.Health(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var a enginetest.Answer
	if err := c.Invoke(t.Context(), enginetest.Request(t, "b", "echo small"), &a); err != nil || a.Body() != "small" {
		t.Errorf("a small one: %q, %v", a.Body(), err)
	}
	giveUp()
	close(w.gate)
	all.Wait()
	if n := w.most.Load(); n != 1 {
		t.Errorf("%d at one time", n)
	}
}
