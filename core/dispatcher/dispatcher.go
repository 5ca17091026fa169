// Package dispatcher decides what runs now and what becomes of it: it keeps the node's epoch alive, takes entries in
// (born claimed where it can), claims those that wait, runs them in bounded slots, and settles each attempt as done,
// retry or dead letter.
//
// It stands between core/outbox, which holds the entries, and core/execution, which runs one.
package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/sdk/fault"
)

// Store is the outbox as the dispatcher uses it.
type Store interface {
	outbox.Inserter
	outbox.SettleStore
}

// ClaimStore finds entries that wait.
type ClaimStore interface {
	// Claim takes up to limit ready entries, at most perApp of each app, beginning behind the app `after`. Their
	// attempt is counted.
	Claim(ctx context.Context, owner int64, limit, perApp int, after uuid.UUID) ([]*outbox.Entry, error)
	// Promote makes due entries ready and returns how many.
	Promote(ctx context.Context) (int, error)
	// Sweep frees entries of dead owners.
	Sweep(ctx context.Context) (freed, ended int, err error)
	// Owned lists the running entries of an epoch: ID, Attempt and ReplyTo only.
	Owned(ctx context.Context, owner int64) ([]*outbox.Entry, error)
}

// Runner runs one attempt of an entry.
type Runner interface {
	Run(ctx context.Context, e *outbox.Entry) execution.Result
}

// Config is what a dispatcher is made of.
type Config struct {
	Node   Node
	Nodes  NodeStore
	Claims ClaimStore
	// Durable writes with synchronous_commit on: all that is acknowledged as durable, and the end of async entries.
	// Fast writes with it off: sync calls, whose caller learns of a lost node anyway.
	Durable, Fast Store
	Runner        Runner
	Inbox         *inbox.Inbox
	// Configured is told the configuration's version after each heartbeat. It must not block.
	Configured  func(version int64)
	Slots       int // runs at one time
	SyncWaiting int // sync calls that may wait for a place
	Log         hclog.Logger
}

// stopLimit bounds what Stop waits for after it has given up on the runs.
const stopLimit = 5 * time.Second

// Causes with which a run is ended before its time.
var (
	errShutdown = &fault.Fault{Kind: fault.Cancelled, Origin: fault.Platform, Message: "the node is shutting down"}
	errLost     = &fault.Fault{Kind: fault.Cancelled, Origin: fault.Platform, Message: "the node lost its lease"}
)

// Dispatcher is one node's. Its methods are safe for concurrent use after Start.
type Dispatcher struct {
	cfg     Config
	log     hclog.Logger
	lease   lease
	slots   *slots
	writers [2]*outbox.Writer // by durable
	settle  [2]*outbox.Settler

	mu       sync.Mutex
	running  map[uuid.UUID]context.CancelCauseFunc // every entry in memory, from before its INSERT until it is settled
	draining bool
	idle     sync.WaitGroup // entries in memory

	wake    chan struct{} // there may be something to claim
	due     chan time.Duration
	backlog atomic.Bool // ready entries may exist: new ones queue behind them
	suspect atomic.Bool // the database may hold entries of this epoch that are not in memory
	stop    context.CancelFunc
	loops   sync.WaitGroup
}

// New makes a dispatcher. Start brings it to life.
func New(cfg Config) *Dispatcher {
	return &Dispatcher{
		cfg: cfg, log: cfg.Log.Named("dispatcher"), slots: newSlots(cfg.Slots, cfg.SyncWaiting),
		running: map[uuid.UUID]context.CancelCauseFunc{},
		wake:    make(chan struct{}, 1), due: make(chan time.Duration, 1),
	}
}

// Start joins the other nodes and begins to work. It fails if the database cannot be reached.
func (d *Dispatcher) Start(ctx context.Context) error {
	sent := bootTime()
	epoch, err := d.cfg.Nodes.Join(ctx, d.cfg.Node)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	d.lease.renew(epoch, sent)
	for i, store := range []Store{d.cfg.Fast, d.cfg.Durable} {
		d.writers[i] = outbox.NewWriter(store, &d.lease, d.log)
		d.settle[i] = outbox.NewSettler(store, &d.lease, d.log)
	}
	loops, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	d.loops.Go(func() { d.beat(loops) })
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
func (d *Dispatcher) Stop(ctx context.Context) error {
	d.mu.Lock()
	d.draining = true
	d.mu.Unlock()
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
	for i := range d.writers {
		d.writers[i].Close()
		d.settle[i].Close()
	}
	epoch := d.lease.Epoch()
	d.stop()
	d.loops.Wait()
	d.lease.lose()
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatLimit)
	defer cancel()
	if err := d.cfg.Nodes.Leave(leave, epoch); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

// Call takes a sync entry in. nil means that the answer, or why there is none, comes to the inbox. ErrBusy and the
// errors of Ready mean that nothing was accepted.
func (d *Dispatcher) Call(ctx context.Context, e *outbox.Entry) error {
	if err := d.slots.place(ctx); err != nil {
		return err
	}
	e.State, e.Attempt, e.MaxAttempts = outbox.Running, 1, 1
	if err := d.admit(e); err != nil {
		d.slots.places.Release(1)
		return err
	}
	d.writers[fast].Append(e, func(err error) {
		if err == nil {
			go d.work(e)
			return
		}
		d.refuse(e, err)
		d.forget(e)
		d.release(e)
	})
	return nil
}

// refuse tells a sync caller that its entry was not accepted.
func (d *Dispatcher) refuse(e *outbox.Entry, err error) {
	reply, gone := d.cfg.Inbox.Reply(context.Background(), e.ReplyTo)
	if gone != nil {
		return
	}
	f := fault.New(fault.Unavailable, fault.Platform, "the request was not accepted: %v", err)
	var rejected *outbox.Rejected
	if errors.As(err, &rejected) {
		f = fault.New(fault.Invalid, fault.Caller, "the request cannot be stored: %v", err)
	}
	_ = reply.End(f) // the first part of a fresh reply never blocks
}

// Append writes an async entry durably and returns after the commit: from then on it is never lost. It is born claimed
// when a place is free and nothing waits before it; otherwise it waits its turn. An *outbox.Rejected error says that
// the entry itself is at fault.
func (d *Dispatcher) Append(ctx context.Context, e *outbox.Entry) error {
	e.State = outbox.Ready
	claimed := e.RunAt.IsZero() && !d.backlog.Load() && d.slots.asyncPlaces.TryAcquire(1)
	if claimed {
		e.State, e.Attempt = outbox.Running, 1
	}
	if !e.RunAt.IsZero() {
		e.State = outbox.Scheduled
	}
	if claimed {
		if err := d.admit(e); err != nil {
			d.slots.asyncPlaces.Release(1)
			return err
		}
	} else if err := d.Ready(); err != nil {
		return err
	}
	written := make(chan error, 1)
	d.writers[durable].Append(e, func(err error) {
		switch {
		case err != nil && claimed:
			d.forget(e)
			d.release(e)
		case claimed:
			go d.work(e)
		case err == nil && e.State == outbox.Ready:
			d.Wake()
		}
		if err != nil {
			d.suspect.Store(true)
		}
		written <- err
	})
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		return fmt.Errorf("append: not known whether it was accepted: %w", context.Cause(ctx))
	}
}

// Index of the writer pair.
const (
	fast    = 0
	durable = 1
)

// admit puts an entry into the node's table before it is written.
func (d *Dispatcher) admit(e *outbox.Entry) error {
	if !d.lease.Valid() {
		return outbox.ErrFenced
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return errShutdown
	}
	d.running[e.ID] = nil
	d.idle.Add(1)
	return nil
}

// forget takes an entry out of the node's table.
func (d *Dispatcher) forget(e *outbox.Entry) {
	d.mu.Lock()
	delete(d.running, e.ID)
	d.mu.Unlock()
	d.idle.Done()
}

// release gives the entry's place back.
func (d *Dispatcher) release(e *outbox.Entry) {
	if e.Sync() {
		d.slots.places.Release(1)
		return
	}
	d.slots.asyncPlaces.Release(1)
	if d.backlog.Load() {
		d.nudge()
	}
}

// work runs an entry that this node owns, and settles it.
func (d *Dispatcher) work(e *outbox.Entry) {
	defer d.release(e)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	d.mu.Lock()
	d.running[e.ID] = cancel
	d.mu.Unlock()
	res, started := d.runInSlot(ctx, e)
	if !started && e.Sync() {
		d.refuse(e, res.Fault)
	}
	speed := durable
	if e.Sync() {
		speed = fast
	}
	d.settle[speed].Settle(decide(e, res, rand.Int64N), func() { d.forget(e) })
}

// runInSlot waits for a slot and runs. started says whether the script may have begun.
func (d *Dispatcher) runInSlot(ctx context.Context, e *outbox.Entry) (res execution.Result, started bool) {
	res.Started = time.Now()
	if e.Sync() {
		if !d.slots.run.TryAcquire(1) {
			// The caller's time runs from acceptance, and most of it is for the script.
			wait, cancel := context.WithTimeout(ctx, min(syncPatience, e.Timeout))
			defer cancel()
			if err := d.slots.run.Acquire(wait, 1); err != nil {
				res.Fault = fault.New(fault.Unavailable, fault.Platform, "no slot came free within %s", syncPatience)
				return res, false
			}
		}
		defer d.slots.run.Release(1)
	} else {
		if err := d.slots.async.Acquire(ctx, 1); err != nil {
			res.Fault = fault.From(context.Cause(ctx))
			return res, false
		}
		defer d.slots.async.Release(1)
		if err := d.slots.run.Acquire(ctx, 1); err != nil {
			res.Fault = fault.From(context.Cause(ctx))
			return res, false
		}
		defer d.slots.run.Release(1)
	}
	if !d.lease.Valid() { // fenced: start nothing
		res.Fault = fault.New(fault.Unavailable, fault.Platform, "%v", outbox.ErrFenced)
		return res, false
	}
	return d.cfg.Runner.Run(ctx, e), true
}

func (d *Dispatcher) cancelAll(cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, cancel := range d.running {
		if cancel != nil {
			cancel(cause)
		}
	}
}

// Wake has the node look for entries that were written by somebody else.
func (d *Dispatcher) Wake() {
	d.backlog.Store(true)
	d.nudge()
}

func (d *Dispatcher) nudge() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}
