package dispatcher

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/outbox"
)

// bare is a dispatcher that holds epoch 1 and has not been started.
func bare() *Dispatcher {
	d := New(Config{Log: hclog.NewNullLogger(), Slots: 8})
	d.lease.now = func() int64 { return 0 }
	d.lease.renew(1, 0)
	return d
}

// An attempt is settled, or its epoch lost, and the entry claimed again before the first attempt leaves the table: the
// second stays there, so it can be stopped and does not look like one that was never started.
func TestForgetLeavesTheNextAttempt(t *testing.T) {
	t.Parallel()
	d := bare()
	id := uuid.New()
	first, second := &outbox.Entry{ID: id, Attempt: 1}, &outbox.Entry{ID: id, Attempt: 2}
	for _, e := range []*outbox.Entry{first, second} {
		if err := d.admit(e, 1); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	d.cancelBy(second, cancel)
	d.cancelBy(first, func(error) {})
	d.forget(first)
	d.cancelAll(errLost)
	if !errors.Is(context.Cause(ctx), errLost) {
		t.Error("the second attempt was not stopped")
	}
	d.forget(second)
	if len(d.running) != 0 {
		t.Errorf("%d attempts are left", len(d.running))
	}
}

// A claim of an epoch that is lost by the time its answer comes starts nothing, even though the node has a new epoch.
func TestClaimOfALostEpochStartsNothing(t *testing.T) {
	t.Parallel()
	d := bare()
	d.lease.lose()
	d.lease.renew(2, 0)
	if err := d.admit(&outbox.Entry{ID: uuid.New(), Owner: 1}, 1); !errors.Is(err, outbox.ErrFenced) {
		t.Errorf("admitted: %v", err)
	}
}

// lost is a database in which an entry of the epoch comes to light.
type lost struct {
	ClaimStore
	entry   *outbox.Entry
	settled chan *outbox.Settlement
}

func (l *lost) MendGates(context.Context) (int, error) { return 0, nil }

func (l *lost) Owned(context.Context, int64) ([]*outbox.Entry, error) {
	return []*outbox.Entry{l.entry}, nil
}

func (l *lost) Settle(_ context.Context, _ int64, batch []*outbox.Settlement) (int64, error) {
	for _, x := range batch {
		l.settled <- x
	}
	return int64(len(batch)), nil
}

// The commit of an INSERT may come through long after its caller was told that nothing is known of it: the entry is found
// without a reason to look for one.
func TestLateCommitIsFound(t *testing.T) {
	t.Parallel()
	d := bare()
	store := &lost{entry: &outbox.Entry{ID: uuid.New(), Attempt: 1}, settled: make(chan *outbox.Settlement, 1)}
	d.cfg.Claims = store
	d.settle[durable] = outbox.NewSettler(store, &d.lease, 0, d.log)
	defer d.settle[durable].Close()
	ctx, stop := context.WithCancel(t.Context())
	var chores sync.WaitGroup
	defer chores.Wait()
	defer stop()
	chores.Go(func() { d.chores(ctx) })
	for range mendSeldom + 2 {
		d.pulses <- Pulse{}
	}
	if x := <-store.settled; x.Entry != store.entry || !x.Uncharged {
		t.Errorf("settled as %+v", x)
	}
}
