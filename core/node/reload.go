package node

import (
	"context"
	"fmt"
	"time"
)

// prepareLimit is how long new versions may take to be ready before they are current all the same. Whoever made a change waits for
// that, within changeLimit.
const prepareLimit = 1500 * time.Millisecond

// reload reads the configuration and makes it current.
func (n *Node) reload(ctx context.Context) error {
	next, err := n.snapshots.Load(ctx)
	if err != nil {
		return fmt.Errorf("load configuration: %w", err)
	}
	if n.engines != nil {
		prepare, cancel := context.WithTimeout(ctx, prepareLimit)
		n.engines.Prepare(prepare, next)
		cancel()
	}
	for {
		now := n.snapshot.Load()
		if now != nil && now.Version >= next.Version {
			return nil // somebody else was faster
		}
		if n.snapshot.CompareAndSwap(now, next) {
			break
		}
	}
	if n.engines != nil {
		n.engines.Keep(next)
	}
	if n.sinks != nil {
		n.sinks.Keep(next)
	}
	if n.cron != nil {
		n.cron.Poke()
	}
	if n.sources != nil {
		n.sources.Poke()
	}
	if n.teller != nil {
		n.teller.Poke()
	}
	return nil
}

// requestReload has the configuration read again soon. It never blocks.
func (n *Node) requestReload() {
	select {
	case n.reloads <- struct{}{}:
	default:
	}
}

func (n *Node) reloadLoop(ctx context.Context) {
	for {
		select {
		case <-n.reloads:
		case <-ctx.Done():
			return
		}
		if err := n.reload(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("the configuration may be old", "error", err) // the next pulse asks again
		}
	}
}
