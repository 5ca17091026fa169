package dispatcher

import (
	"context"
	"time"

	"github.com/picloud/picloud/core/failpoint"
)

// beat keeps the epoch alive. It is the only goroutine that talks to the NodeStore, and it does nothing else, so that no
// work delays a heartbeat.
func (d *Dispatcher) beat(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		if p, ok := d.pulse(ctx); ok { // the first at once: a restarted node has its former life's work to take back
			d.cfg.Configured(p.ConfigVersion)
			if p.Late {
				p.Strangers = d.evict(ctx) || p.Strangers
			}
			select { // the chores see the latest
			case <-d.pulses:
			default:
			}
			d.pulses <- p
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// pulse sends one heartbeat. A lost epoch ends every run and begins a new epoch.
func (d *Dispatcher) pulse(ctx context.Context) (Pulse, bool) {
	ctx, cancel := context.WithTimeout(ctx, beatLimit)
	defer cancel()
	epoch := d.lease.Epoch()
	sent := d.lease.now()
	if epoch != 0 {
		p, err := d.cfg.Nodes.Pulse(ctx, epoch)
		if err != nil {
			if ctx.Err() == nil || d.lease.Valid() {
				d.log.Warn("heartbeat missed", "epoch", epoch, "error", err)
			}
			return p, false
		}
		if p.Alive {
			d.lease.renew(epoch, sent)
			failpoint.Hit(failpoint.HeartbeatWritten)
			return p, true
		}
		d.log.Error("the epoch is lost: other nodes have taken its work over", "epoch", epoch)
		d.lease.lose()
		d.cancelAll(errLost)
	}
	next, err := d.cfg.Nodes.Join(ctx, d.cfg.Node)
	if err != nil {
		d.log.Warn("cannot join", "error", err)
		return Pulse{}, false
	}
	d.lease.renew(next, sent)
	d.log.Info("joined with a new epoch", "epoch", next)
	return Pulse{}, false
}

// evict ends the epochs of nodes that are gone and reports whether there were any.
func (d *Dispatcher) evict(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, beatLimit)
	defer cancel()
	n, err := d.cfg.Nodes.Evict(ctx, d.lease.Epoch())
	if err != nil {
		d.log.Warn("cannot evict late nodes", "error", err)
		return false
	}
	if n > 0 {
		d.log.Warn("evicted nodes whose heartbeat stopped", "count", n)
	}
	return n > 0
}
