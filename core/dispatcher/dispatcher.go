// Package dispatcher decides what runs now and what becomes of it: it keeps the node's epoch alive, takes entries in
// (born claimed where it can), claims those that wait, runs them in bounded slots, and settles each attempt as done,
// retry or dead letter.
//
// It stands between core/outbox, which holds the entries, and core/execution, which runs one.
//
// An entry comes in by one of
//
//	              who asks                        written                          runs
//	Call          a request that waits            without waiting for the disk     in a slot for sync runs
//	CallFrom      a run that waits                as by Call                       in the slot that the run lends
//	Append        whoever must not lose it        durably, before it returns       now if a slot is free, else once it is claimed
//	AppendWith    who has a transaction           in that                          as by Append
//	AppendCaused  what changes data, or publishes in the transaction of its cause  once it is claimed
//	Hand          publish_ephemeral               never                            now, or not at all
//
// or by a claim, where it was written by another way or node and waits.
package dispatcher

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// Store is the outbox as the dispatcher uses it.
type Store interface {
	outbox.Inserter
	outbox.SettleStore
}

// ClaimStore finds entries that wait, and looks after those of nodes that are gone.
type ClaimStore interface {
	BacklogStore
	// Ready lists up to limit lanes that have ready entries, in the order of app and lane, from behind after on.
	Ready(ctx context.Context, after outbox.LaneKey, limit int) ([]outbox.LaneKey, error)
	// Claim takes ready entries, at most the quota of each lane. Their attempt is counted.
	Claim(ctx context.Context, owner int64, quotas []outbox.Quota) ([]*outbox.Entry, error)
	// Promote makes due entries ready and returns how many. Where there was none, next is how long until the next is due;
	// nil: none is.
	Promote(ctx context.Context) (n int, next *time.Duration, err error)
	// Expire ends entries that waited too long and returns how many.
	Expire(ctx context.Context) (int, error)
	// Cancelled lists the running entries of an epoch that are to be stopped.
	Cancelled(ctx context.Context, owner int64) ([]uuid.UUID, error)
	// Sweep frees entries of dead owners.
	Sweep(ctx context.Context) (freed, ended, dead int, err error)
	// Owned lists the running entries of an epoch: ID, Attempt, Claims and ReplyTo only.
	Owned(ctx context.Context, owner int64) ([]*outbox.Entry, error)
	// MendGates lets entries through that wait at a gate with room, of which there are none.
	MendGates(ctx context.Context) (orphans int, err error)
	// Detach makes a running sync entry one that nobody waits for, durably. It reports whether the entry still ran.
	Detach(ctx context.Context, owner int64, e *outbox.Entry) (bool, error)
}

// Runner runs attempts.
type Runner interface {
	// Run runs one attempt of an entry.
	Run(ctx context.Context, e *outbox.Entry) execution.Result
	// RunBatch runs one attempt of several entries of one target together. The results are in their order.
	RunBatch(ctx context.Context, entries []*outbox.Entry) []execution.Result
}

// Config is what a dispatcher is made of.
type Config struct {
	Node   Node
	Nodes  NodeStore
	Claims ClaimStore
	// Durable writes with synchronous_commit on: all that is acknowledged as durable, and the end of async entries.
	// Fast writes with it off: sync calls, whose caller learns of a lost node anyway. Keyed writes durably those entries
	// that share rows with others.
	Durable, Fast Store
	Keyed         outbox.Inserter
	FastKeyed     outbox.Inserter // writes those of them for which a run waits, as Fast does
	Units         Units           // of transactional scripts
	Runner        Runner
	Inbox         *inbox.Inbox
	// Lane finds what owns an entry's limits and pause in the configuration as it is now; nil: it is gone.
	Lane func(id uuid.UUID) *tenant.Lane
	// Alone reports whether there is one app only, in the configuration as it is now.
	Alone func() bool
	// Configured is told the configuration's version after each heartbeat. It must not block.
	Configured func(version int64)
	// Judge decides how much of an attempt is recorded. It must not block.
	Judge func(*outbox.Settlement)
	// Failed is told of attempts before they are settled, and may write entries about those that have failed for good.
	Failed func(*outbox.Settlement)
	// DeadLettered is told that there may be new dead letters, or some to be put back. It must not block.
	DeadLettered func()
	Slots        int   // runs at one time
	SyncWaiting  int   // sync calls that may wait for a place
	MaxBacklog   int   // entries of one app that may wait; zero: any number
	MaxBytes     int64 // and their bytes
	Log          hclog.Logger
}

// gather is how long the end of an attempt waits for others, by speed: nobody waits for that of a sync call, which has its
// answer by then, while that of an async one may let the next in. With 64 callers it is the difference between 19 and 120
// settlements in a statement.
var gather = [...]time.Duration{fast: 10 * time.Millisecond, durable: 2 * time.Millisecond}

// stopLimit bounds what Stop waits for after it has given up on the runs.
const stopLimit = 5 * time.Second

// Causes with which a run is ended before its time.
var (
	errShutdown  = &fault.Fault{Kind: fault.Cancelled, Origin: fault.Platform, Message: "the node is shutting down"}
	errLost      = &fault.Fault{Kind: fault.Cancelled, Origin: fault.Platform, Message: "the node lost its lease"}
	errCancelled = &fault.Fault{Kind: fault.Cancelled, Origin: fault.Caller, Message: "the execution was cancelled"}
	errPaused    = &fault.Fault{Kind: fault.Cancelled, Origin: fault.Platform, Message: "the script was paused before it could start"}
	errNoSlot    = &fault.Fault{Kind: fault.Unavailable, Origin: fault.Platform, Message: "no slot came free within a second"}
	errCompany   = &fault.Fault{Kind: fault.Cancelled, Origin: fault.Platform, Message: "another event of its batch was cancelled"}
)

// Dispatcher is one node's. Its methods are safe for concurrent use after Start.
type Dispatcher struct {
	cfg       Config
	log       hclog.Logger
	lease     lease
	slots     *slots
	limits    *limits
	admission *admission
	chains    chains
	writers   [4]*outbox.Writer // by speed
	counters  counters
	settle    [2]*outbox.Settler

	mu       sync.Mutex
	running  map[uuid.UUID]*running // every entry in memory, from before its INSERT until it is settled
	draining bool
	idle     sync.WaitGroup          // entries in memory
	queued   map[uuid.UUID]uuid.UUID // lanes with ready entries and their apps, as far as this node knows: new ones queue behind them

	wake    chan struct{} // there may be something to claim
	due     chan time.Duration
	pulses  chan Pulse  // for the chores
	backlog atomic.Bool // there may be ready entries
	fresh   atomic.Bool // there may be some in lanes that this node does not know of
	suspect atomic.Bool // the database may hold entries of this epoch that are not in memory
	stop    context.CancelFunc
	loops   sync.WaitGroup
}

// running is an attempt in memory.
type running struct {
	entry  *outbox.Entry
	cancel context.CancelCauseFunc // nil: it has not come so far
	wanted bool                    // somebody wants it stopped: itself, not only what it runs with
	lent   chan struct{}           // full while another run has its slot; nil: none ever had
}

// New makes a dispatcher. Start brings it to life.
func New(cfg Config) *Dispatcher {
	return &Dispatcher{
		cfg: cfg, log: cfg.Log.Named("dispatcher"), lease: lease{now: bootTime},
		slots: newSlots(cfg.Slots, cfg.SyncWaiting, uptime, cfg.Alone), limits: newLimits(uptime),
		admission: &admission{
			store: cfg.Claims, maxEntries: cfg.MaxBacklog, maxBytes: cfg.MaxBytes, apps: map[uuid.UUID]*backlog{},
		},
		chains: chains{roots: map[uuid.UUID]*chain{}}, running: map[uuid.UUID]*running{}, queued: map[uuid.UUID]uuid.UUID{},
		wake: make(chan struct{}, 1), due: make(chan time.Duration, 1), pulses: make(chan Pulse, 1),
	}
}

// Start joins the other nodes and begins to work. It fails if the database cannot be reached.
func (d *Dispatcher) Start(ctx context.Context) error {
	sent := d.lease.now()
	epoch, err := d.cfg.Nodes.Join(ctx, d.cfg.Node)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	d.lease.renew(epoch, sent)
	for i, store := range []Store{d.cfg.Fast, d.cfg.Durable} {
		d.writers[i] = outbox.NewWriter(store, &d.lease, d.log)
		d.settle[i] = outbox.NewSettler(store, &d.lease, gather[i], d.log)
	}
	d.writers[keyed] = outbox.NewWriter(d.cfg.Keyed, &d.lease, d.log)
	d.writers[fastKeyed] = outbox.NewWriter(d.cfg.FastKeyed, &d.lease, d.log)
	loops, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	d.loops.Go(func() { d.beat(loops) })
	d.loops.Go(func() { d.chores(loops) })
	d.loops.Go(func() { d.claimLoop(loops) })
	return nil
}

// Ready reports whether the node may take work in.
func (d *Dispatcher) Ready() error {
	d.mu.Lock()
	draining := d.draining
	d.mu.Unlock()
	switch {
	case draining:
		return errShutdown
	case !d.lease.Valid():
		return outbox.ErrFenced
	}
	return nil
}

// Stop takes nothing in any more, lets what runs come to its end until ctx ends, then gives the rest back to the outbox.
func (d *Dispatcher) Stop(ctx context.Context) {
	d.mu.Lock()
	d.draining = true
	d.mu.Unlock()
	failpoint.Hit(failpoint.ShutdownDraining)
	ended := make(chan struct{})
	go func() { d.idle.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-ctx.Done():
		d.cancelAll(errShutdown)
		select { // runs end a moment after they are cancelled, by their process if need be
		case <-ended:
		case <-time.After(stopLimit): // the database is away too: the sweep of the next life finds the entries
		}
	}
	for _, w := range d.writers {
		w.Close()
	}
	for _, s := range d.settle {
		s.Close()
	}
	d.stop()
	d.loops.Wait()
	epoch := d.lease.Epoch()
	d.lease.lose()
	if epoch == 0 {
		return // it has never joined
	}
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatLimit)
	defer cancel()
	if err := d.cfg.Nodes.Leave(leave, epoch); err != nil {
		d.log.Warn("cannot tell the others that this node leaves; they notice within seconds", "error", err)
	}
}

// Wake has the node look for entries that were written by somebody else.
func (d *Dispatcher) Wake() {
	d.backlog.Store(true)
	d.fresh.Store(true)
	d.nudge()
}

// nudge has the claim loop look for work of lanes that it knows, since there may be room for it.
func (d *Dispatcher) nudge() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// dueIn has the claim loop look for due entries after in, at the latest.
func (d *Dispatcher) dueIn(in time.Duration) {
	for {
		select {
		case d.due <- in:
			return
		default:
		}
		select {
		case other := <-d.due:
			in = min(in, other)
		default:
		}
	}
}
