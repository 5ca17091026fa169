package deadletter

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// AnnounceStore brings new dead letters to their handlers.
type AnnounceStore interface {
	// Announce takes some letters that are new, writes the entries that handlers makes of each, as the epoch owner, and
	// marks the letters, in one transaction. It returns how many letters there were and how many entries.
	Announce(
		ctx context.Context, owner int64, handlers func(l *Letter) (entries []*outbox.Entry, tooDeep bool, err error),
	) (letters, entries int, err error)
}

// Announcer brings new dead letters to the scripts that asked for such. One runs on each node; they do not get in each
// other's way.
type Announcer struct {
	store    AnnounceStore
	snapshot func() *tenant.Snapshot
	epoch    func() int64
	wake     func()
	log      hclog.Logger
	poke     chan struct{}
}

// NewAnnouncer makes an announcer. epoch is the node's, zero while it has none; wake is called after entries were written.
func NewAnnouncer(store AnnounceStore, snapshot func() *tenant.Snapshot, epoch func() int64, wake func(), log hclog.Logger) *Announcer {
	return &Announcer{
		store: store, snapshot: snapshot, epoch: epoch, wake: wake, log: log.Named("deadletter"), poke: make(chan struct{}, 1),
	}
}

// Poke says that there may be new dead letters. It does not block.
func (a *Announcer) Poke() {
	select {
	case a.poke <- struct{}{}:
	default:
	}
}

// announceLimit bounds one transaction.
const announceLimit = 10 * time.Second

// Run announces until ctx ends.
func (a *Announcer) Run(ctx context.Context) {
	for {
		select {
		case <-a.poke:
		case <-ctx.Done():
			return
		}
		for a.announce(ctx) {
		}
	}
}

// announce does one transaction and reports whether another may find more.
func (a *Announcer) announce(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, announceLimit)
	defer cancel()
	snapshot, epoch := a.snapshot(), a.epoch()
	if epoch == 0 {
		return false // the pulse asks again
	}
	letters, entries, err := a.store.Announce(ctx, epoch, func(l *Letter) ([]*outbox.Entry, bool, error) {
		return Handlers(snapshot, l)
	})
	if err != nil {
		a.log.Warn("cannot bring dead letters to their handlers", "error", err) // the pulse asks again
		return false
	}
	if entries > 0 {
		a.wake()
	}
	return letters > 0
}
