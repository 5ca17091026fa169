package dispatcher

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/sdk/fault"
)

// Units commits what runs of transactional scripts want to have done. See postgres.UnitStore.
type Units interface {
	Commit(
		ctx context.Context, owner int64, u *data.Unit, caused func(kind outbox.Kind, collection string) data.Caused, x *outbox.Settlement,
	) ([]*outbox.Entry, error)
}

// unitTimeout bounds one try to commit a unit.
const unitTimeout = 5 * time.Second

var (
	errConflict = &fault.Fault{Kind: fault.Conflict, Origin: fault.Platform, Message: "what the run has read has changed since, or another run was in its way; nothing was done"}
	// errUnmeasured is tried again without counting.
	errUnmeasured = &fault.Fault{Kind: fault.Unavailable, Origin: fault.Platform, Message: "nothing was done: the database does not say how much of the app waits"}
	errInDoubt    = &fault.Fault{
		Kind: fault.Unavailable, Origin: fault.Platform, Message: "it is not known whether what the run wrote is committed: the database does not answer",
	}
)

// Commit does what a run that has ended well wants to have done, and settles it with that. nil: all of it is done, and res says that it is
// settled. Otherwise nothing is done, unless the fault says that it is not known: then the run may be settled all the same, and settling it
// again does nothing.
func (d *Dispatcher) Commit(ctx context.Context, e *outbox.Entry, res *execution.Result, unit *service.Unit) *fault.Fault {
	x := decide(e, *res, rand.Int64N)
	x.Answer = res.Answer
	ctx = context.WithoutCancel(ctx) // what is begun is brought to an end
	events, size := unit.Sends()
	if events > 0 { // who only writes takes part of the backlog away, if anything
		if err := d.admission.admit(ctx, e.App, size); err != nil {
			if f := unit.Refusal(err); f != nil {
				return f
			}
			d.log.Warn("a transactional run is not committed: what waits is not known", "entry_id", e.ID, "error", err)
			return errUnmeasured
		}
	}
	work := unit.Work()
	for begun := time.Now(); time.Since(begun) < outbox.RepeatFor; pauseFor(unitPause) {
		if d.lease.Epoch() != e.Owner {
			return errLost
		}
		if !d.lease.Valid() {
			continue
		}
		entries, err := d.tryCommit(ctx, e, work, unit, x)
		switch {
		case err == nil:
			res.Settled = true
			d.written(e.App, entries, size)
			return nil
		case errors.Is(err, data.ErrUnitConflict):
			return errConflict
		case errors.Is(err, outbox.ErrFenced):
			return errLost
		}
		if f := unit.Refusal(err); f != nil {
			return f
		}
		d.log.Warn("a transactional run is not committed yet", "entry_id", e.ID, "error", err)
		if e.Unwritten { // nothing would tell a second try of the first
			break
		}
	}
	return errInDoubt
}

func (d *Dispatcher) tryCommit(ctx context.Context, e *outbox.Entry, work *data.Unit, unit *service.Unit, x *outbox.Settlement) ([]*outbox.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, unitTimeout)
	defer cancel()
	return d.cfg.Units.Commit(ctx, e.Owner, work, unit.Caused, x)
}

// unitPause lies between two tries to commit a unit.
const unitPause = 50 * time.Millisecond

func pauseFor(d time.Duration) { <-time.After(d) }

// ended forgets an attempt that is settled.
func (d *Dispatcher) ended(e *outbox.Entry, res *execution.Result) {
	x := decide(e, *res, rand.Int64N)
	d.counters.outcomes[x.Outcome].Add(1)
	d.counters.engineTime.Add(int64(x.Duration))
	d.cfg.Judge(x)
	d.forget(e)
	if e.Gate != "" {
		d.Wake() // it may have let another through
	}
}
