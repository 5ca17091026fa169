package deadletter

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
)

// ErrOld says that there is a newer configuration, in which others may ask for a letter.
var ErrOld = errors.New("the configuration is old")

// Store is where dead letters are.
type Store interface {
	// Announce takes some letters that are new, writes the entries of those who ask for them, as the epoch owner, and marks
	// the letters, in one transaction. It returns how many letters there were and how many entries, or ErrOld.
	Announce(ctx context.Context, owner int64, handlers Handlers) (letters, entries int, err error)
	// StepReplay does a second's worth of one replay that is due. It returns how many letters it put back, and whether there
	// was such a replay.
	StepReplay(ctx context.Context) (replayed int, did bool, err error)
}

// Worker brings new dead letters to the scripts that asked for such, and puts back what somebody wants replayed. One runs on
// each node; they do not get in each other's way.
type Worker struct {
	store    Store
	snapshot func() *tenant.Snapshot
	epoch    func() int64
	wake     func()
	failure  FailureFunc
	unfit    trigger.UnfitFunc
	log      hclog.Logger
	poke     chan struct{}
}

// NewWorker makes a worker. epoch is the node's, zero while it has none; wake is called after entries were written.
func NewWorker(
	store Store, snapshot func() *tenant.Snapshot, epoch func() int64, wake func(), failure FailureFunc, unfit trigger.UnfitFunc, log hclog.Logger,
) *Worker {
	return &Worker{
		store: store, snapshot: snapshot, epoch: epoch, wake: wake, failure: failure, unfit: unfit, log: log.Named("deadletter"),
		poke: make(chan struct{}, 1),
	}
}

// Poke says that there may be new dead letters, or a replay that is due. It does not block.
func (w *Worker) Poke() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// limit bounds one transaction.
const limit = 10 * time.Second

// Run works until ctx ends.
func (w *Worker) Run(ctx context.Context) {
	for {
		select {
		case <-w.poke:
		case <-ctx.Done():
			return
		}
		for w.announce(ctx) {
		}
		for w.replay(ctx) {
		}
	}
}

// announce does one transaction and reports whether another may find more.
func (w *Worker) announce(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	epoch := w.epoch()
	if epoch == 0 {
		return false // the pulse asks again
	}
	letters, entries, err := w.store.Announce(ctx, epoch, NewHandlers(w.snapshot(), w.failure, w.unfit))
	if errors.Is(err, ErrOld) {
		return false // the pulse has it read, and asks again
	}
	if err != nil {
		w.log.Warn("cannot bring dead letters to their handlers", "error", err) // the pulse asks again
		return false
	}
	if entries > 0 {
		w.wake()
	}
	return letters > 0
}

// replay does one step and reports whether another replay may be due.
func (w *Worker) replay(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	n, did, err := w.store.StepReplay(ctx)
	if err != nil {
		w.log.Warn("cannot put dead letters back", "error", err) // the pulse asks again
		return false
	}
	if n > 0 {
		w.wake()
	}
	return did
}
