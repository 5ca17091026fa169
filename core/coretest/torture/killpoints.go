package torture

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/picloud/picloud/core/failpoint"
)

// unreached are failpoints to which the load does not come. Those of data and of sources have tests of their
// own: TestKVKilled, and TestKilled of core/source.
var unreached = []string{
	failpoint.DetachCommitted, failpoint.DataChanged, failpoint.DataCaused, failpoint.DataCommitted, failpoint.SourceReceived,
	failpoint.SourceCommitted, failpoint.SourceAcked,
}

// reachLimit is how long the load may take to come to a failpoint.
const reachLimit = 20 * time.Second

// KillPoints has the only node die at every failpoint, so many times each, and start again, and judges once all is quiet.
func (w *World) KillPoints(ctx context.Context, rounds int) error {
	return w.under(ctx, func() {
		for round := range rounds {
			for _, point := range failpoint.Names {
				if slices.Contains(unreached, point) {
					continue
				}
				fault := w.begin()
				if err := w.dieAt(ctx, w.nodes[0], point, 1+round*2); err != nil {
					w.breach("every kill point is reached", fmt.Sprintf("%s: %v", point, err))
				}
				w.end(fault)
			}
		}
	})
}

// dieAt has the node die when it comes to a failpoint for the n-th time, and starts it again.
func (w *World) dieAt(ctx context.Context, n *Node, point string, nth int) error {
	before := w.recorder.actions(point)
	spec := fmt.Sprintf("%s=kill@%d", point, nth)
	var err error
	switch point {
	case failpoint.SweepSelected, failpoint.SweepUpdated: // the next life does it, as soon as it has joined
		busy, cancel := context.WithTimeout(ctx, reachLimit)
		w.recorder.await(busy, time.Now(), func(r *Run) bool { return r.Sleep > 50 }) // it leaves something behind
		cancel()
		n.kill()
		err = w.dieStarting(ctx, n, point+"=kill@1")
	case failpoint.HeartbeatWritten:
		err = w.dieRunning(ctx, n, point+"=kill@1", 0)
	case failpoint.ShutdownDraining:
		err = w.dieRunning(ctx, n, point+"=kill@1", syscall.SIGTERM)
	default:
		err = w.dieRunning(ctx, n, spec, 0)
	}
	if err == nil && w.recorder.actions(point) == before {
		err = fmt.Errorf("it died of something else")
	}
	if n.now() == nil {
		if err := n.start(ctx, ""); err != nil {
			return err
		}
	}
	return err
}

func (w *World) dieRunning(ctx context.Context, n *Node, spec string, signal syscall.Signal) error {
	l := n.now()
	w.recorder.excuse(l.pid, func(e *excuse) { e.lost = true })
	if err := n.arm(spec); err != nil && alive(l.pid) {
		return err
	}
	if signal != 0 {
		_ = l.cmd.Process.Signal(signal)
	}
	return n.died(ctx, l)
}

// dieStarting starts the node with a failpoint on: it may die before it serves.
func (w *World) dieStarting(ctx context.Context, n *Node, spec string) error {
	if err := n.start(ctx, spec); err != nil {
		return nil // whether it was the failpoint is known from its report
	}
	l := n.now()
	w.recorder.excuse(l.pid, func(e *excuse) { e.lost = true })
	return n.died(ctx, l)
}

// died waits until a life of the node has reached its failpoint and ended; after reachLimit it is killed, and an error.
func (n *Node) died(ctx context.Context, l *life) error {
	limit := time.NewTimer(reachLimit)
	defer limit.Stop()
	select {
	case <-l.ended:
		n.gone()
		return nil
	case <-limit.C:
		n.kill()
		return fmt.Errorf("not reached within %s", reachLimit)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
