package node

import (
	"context"
	"fmt"
	"time"

	"github.com/picloud/picloud/core/postgres"
)

// reload reads the configuration and makes it current.
func (n *Node) reload(ctx context.Context) error {
	next, err := n.snapshots.Load(ctx)
	if err != nil {
		return fmt.Errorf("load configuration: %w", err)
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

// maintainEvery is how often the node looks after the tables.
const maintainEvery = time.Hour

// maintain keeps partitions ahead of time, and removes results and dead letters whose time is over: now, since a node may
// never be up for an hour, and then every hour.
func (n *Node) maintain(ctx context.Context, executions *postgres.ExecutionStore, letters *postgres.DeadLetterStore, results *postgres.ResultStore) {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for {
		if err := executions.Extend(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("cannot make partitions", "error", err)
		}
		if _, err := results.Purge(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("cannot remove old results", "error", err)
		}
		if _, err := letters.Purge(ctx, n.cfg.KeepDeadLetters); err != nil && ctx.Err() == nil {
			n.log.Warn("cannot remove old dead letters", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
