package node

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/postgres"
)

// How often the node looks after the tables: what has to happen some day, and what a busy node has to do all the time. An
// idle one does nothing of the latter. lastNote bounds what is noted when the node stops.
const (
	maintainEvery = time.Hour
	noteEvery     = 5 * time.Second
	watchEvery    = time.Minute
	lastNote      = 2 * time.Second
	quietNotes    = 4 // without anything to note, until a node gives memory back
)

// What makes an outbox slow in the end, and is worth a word before.
const (
	longTransaction = 5 * time.Minute
	longReady       = 10 * time.Minute
	manyDead        = 500_000
)

// upkeep is what the node looks after.
type upkeep struct {
	executions *postgres.ExecutionStore
	history    *postgres.HistoryStore
	letters    *postgres.DeadLetterStore
	results    *postgres.ResultStore
	tables     *postgres.TableStore
	apps       *postgres.AppStore
	kv         *postgres.KVStore
	files      *postgres.FileStore
}

// maintain keeps partitions ahead of time, removes what is old, and writes down what is stored of each app: now, since a
// node may never be up for an hour, and then at intervals.
func (n *Node) maintain(ctx context.Context, u *upkeep) {
	seldom, often, watch := time.NewTicker(maintainEvery), time.NewTicker(noteEvery), time.NewTicker(watchEvery)
	defer seldom.Stop()
	defer often.Stop()
	defer watch.Stop()
	busy, ended := make(chan struct{}, 1), make(chan struct{})
	go func() { defer close(ended); n.vacuum(ctx, u, busy) }()
	defer func() { <-ended }()
	n.clean(ctx, u)
	quiet := 0
	for {
		select {
		case <-seldom.C:
			n.clean(ctx, u)
		case <-often.C:
			quiet++
			if n.note(ctx, u) {
				quiet = 0
				select {
				case busy <- struct{}{}:
				default:
				}
			}
			if quiet == quietNotes {
				debug.FreeOSMemory() // a heap that is allowed to grow while there is much to do keeps what it had: 80 MB with 100 apps
			}
		case <-watch.C:
			n.watch(ctx, u)
			n.expire(ctx, u)
		case <-ctx.Done():
			return
		}
	}
}

// leftAlone is how old a content is that no file names before it is removed, as its row may not be written yet; and for how long
// an app was deleted before its data is removed, as its last runs may write for as long as they last.
const leftAlone = time.Hour

// clean does what has to be done now and then.
func (n *Node) clean(ctx context.Context, u *upkeep) {
	warn := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			n.log.Warn("cannot "+what, "error", err)
		}
	}
	warn("make partitions", u.executions.Extend(ctx))
	dropped, err := u.history.Purge(ctx, n.cfg.KeepExecutions)
	warn("remove old records of runs", err)
	if dropped > 0 {
		n.log.Info("removed old records of runs", "partitions", dropped)
	}
	_, err = u.results.Purge(ctx)
	warn("remove old results", err)
	_, err = u.letters.Purge(ctx, n.cfg.KeepDeadLetters)
	warn("remove old dead letters", err)
	warn("remove the data of deleted apps", n.purge(ctx, u))
	named := func(app uuid.UUID, blobs []uuid.UUID) (map[uuid.UUID]bool, error) {
		return u.files.Named(ctx, app, blobs)
	}
	_, err = n.contents.Sweep(ctx, time.Now().Add(-leftAlone), named)
	warn("remove contents that no file has", err)
}

// note writes down what this node has counted since the last time, if anything, and learns what others have stored.
func (n *Node) note(ctx context.Context, u *upkeep) (busy bool) {
	taken := n.records.Take()
	if len(taken.Usage) == 0 {
		return false
	}
	total, err := u.history.Add(ctx, taken)
	if err != nil {
		n.records.Undo(taken)
		if ctx.Err() == nil {
			n.log.Warn("cannot write down what is stored of runs", "error", err)
		}
		return true
	}
	n.records.Learn(total)
	return true
}

// vacuum has the tables vacuumed where many rows are dead, while the node is busy.
func (n *Node) vacuum(ctx context.Context, u *upkeep, busy <-chan struct{}) {
	for {
		select {
		case <-busy:
		case <-ctx.Done():
			return
		}
		vacuumed, err := u.tables.Vacuum(ctx)
		if err != nil && ctx.Err() == nil {
			n.log.Warn("cannot vacuum", "error", err)
		}
		for _, table := range vacuumed {
			n.log.Debug("vacuumed", "table", table)
		}
	}
}

// expireBatch is how many rows are removed in one transaction: values that have expired, and of each kind what a deleted app has left.
const expireBatch = 5000

// expire removes values whose time is over.
func (n *Node) expire(ctx context.Context, u *upkeep) {
	for ctx.Err() == nil {
		removed, err := u.kv.Expire(ctx, expireBatch)
		if err != nil && ctx.Err() == nil {
			n.log.Warn("cannot remove values that have expired", "error", err)
		}
		if removed < expireBatch {
			return
		}
	}
}

// purge removes what deleted apps have left, in small transactions.
func (n *Node) purge(ctx context.Context, u *upkeep) error {
	for {
		more, err := u.apps.Purge(ctx, time.Now().Add(-leftAlone), expireBatch)
		if err != nil || !more {
			return err
		}
	}
}

// watch says what will make the outbox slow.
func (n *Node) watch(ctx context.Context, u *upkeep) {
	h, err := u.tables.Health(ctx)
	if err != nil {
		if ctx.Err() == nil {
			n.log.Warn("cannot look after the database", "error", err)
		}
		return
	}
	if h.OldestTransaction > longTransaction {
		n.log.Warn("a transaction is open for long: what is deleted meanwhile cannot be removed; see pg_stat_activity",
			"age", h.OldestTransaction.Round(time.Second))
	}
	if h.OldestReady > longReady {
		n.log.Warn("events wait for long: see `picloud entries explain`, or give the server more slots or nodes",
			"longest", h.OldestReady.Round(time.Second), "entries", h.Entries)
	}
	if h.DeadRows > manyDead {
		n.log.Warn("many dead rows are in the outbox: vacuum does not keep up", "rows", h.DeadRows)
	}
}
