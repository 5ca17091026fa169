package dispatcher

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Timing of a node's life. The fence closes strictly before anybody may take over (core/postgres: 5 s with a free lock,
// 10 s without), so that what a fenced node lets through is never later than its successor's first start.
const (
	beatEvery  = time.Second
	fenceAfter = 3 * time.Second
	beatLimit  = 2 * time.Second // bounds one heartbeat statement
)

// Node describes this process to the others.
type Node struct {
	Name    string
	Address string
	Version string
	Kinds   []int16
}

// Pulse is what one heartbeat brings back.
type Pulse struct {
	Alive         bool          // the epoch is still live
	ConfigVersion int64         // of the configuration in the database
	Late          bool          // another node's heartbeat is overdue
	Ready         bool          // entries may be claimed
	Scheduled     bool          // entries are due later
	NextDue       time.Duration // until the first of those
	Strangers     bool          // running entries belong to no live epoch
	Nodes         int           // live nodes, this one included
	Expired       bool          // entries have waited too long
	Cancelled     bool          // own entries are to be stopped
	Blocked       bool          // entries wait at gates
	Letters       bool          // dead letters are new, or to be put back
}

// NodeStore keeps epochs in the database. Its methods are called from one goroutine.
type NodeStore interface {
	// Join begins a new epoch for the node and ends those of its former life.
	Join(ctx context.Context, n Node) (epoch int64, err error)
	// Pulse beats for the epoch.
	Pulse(ctx context.Context, epoch int64) (Pulse, error)
	// Evict ends the epochs of other nodes that are gone.
	Evict(ctx context.Context, epoch int64) (int, error)
	// Leave ends the epoch.
	Leave(ctx context.Context, epoch int64) error
}

// lease is this node's right to write, as the last heartbeat left it. Safe for concurrent use.
type lease struct {
	epoch atomic.Int64
	good  atomic.Int64 // when the last good heartbeat was sent, by now
	// now is bootTime, whose nanoseconds count the time a machine was suspended. A test may have another clock.
	now func() int64

	mu   sync.Mutex
	next chan struct{} // closed at the next change; nil: nobody waits for it
}

func (l *lease) Epoch() int64 { return l.epoch.Load() }

// Valid reports whether no other node can have taken over yet.
func (l *lease) Valid() bool {
	return l.epoch.Load() != 0 && l.now()-l.good.Load() < int64(fenceAfter)
}

func (l *lease) renew(epoch, sent int64) {
	l.good.Store(sent)
	l.epoch.Store(epoch)
	l.tell()
}

func (l *lease) lose() {
	l.epoch.Store(0)
	l.tell()
}

// changed is closed when the lease is renewed or lost.
func (l *lease) changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = make(chan struct{})
	}
	return l.next
}

func (l *lease) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next != nil {
		close(l.next)
		l.next = nil
	}
}

// Epoch is the node's life, zero while it has none.
func (d *Dispatcher) Epoch() int64 { return d.lease.Epoch() }

// Hold returns once this node may act for its epoch: at once while the lease is good, later while the node is fenced, and
// with an error once the epoch is lost or ctx ends. Whatever a run does to the outside passes it first.
func (d *Dispatcher) Hold(ctx context.Context, epoch int64) error {
	for {
		changed := d.lease.changed()
		switch {
		case d.lease.Epoch() != epoch:
			return errLost
		case d.lease.Valid():
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
