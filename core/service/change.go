package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/fault"
)

// change writes data of a collection, together with the entries that triggers make of it. do gets the epoch to write under, and what
// makes the entries, nil where no trigger looks at the collection; it is repeated where the node had lost its lease, since nothing
// was changed then. size is how many bytes an entry takes, roughly.
func (c *call) change(
	ctx context.Context, kind outbox.Kind, collection string, size int,
	do func(owner int64, caused data.Caused) ([]*outbox.Entry, error),
) error {
	for try := 1; ; try++ {
		if err := c.outbox.Hold(ctx, c.run.Entry.Owner); err != nil {
			return err
		}
		snapshot := c.snapshot()
		var err error
		if !watched(snapshot.Triggers(c.run.Entry.App, kind.String()), collection) {
			_, err = do(c.run.Entry.Owner, nil)
		} else {
			err = c.outbox.AppendCaused(ctx, c.run.Entry.App, size, func(int64) ([]*outbox.Entry, error) {
				return do(c.run.Entry.Owner, func(change data.Change) ([]*outbox.Entry, error) { return c.caused(snapshot, kind, change) })
			})
		}
		if errors.Is(err, outbox.ErrFenced) && try < fencedTries {
			continue
		}
		if err != nil {
			return c.dataRefusal(ctx, err)
		}
		return nil
	}
}

// watched reports whether a trigger may take a change of a collection.
func watched(triggers []*tenant.Trigger, collection string) bool {
	return slices.ContainsFunc(triggers, func(t *tenant.Trigger) bool {
		return slices.ContainsFunc([]string{tenant.OpCreate, tenant.OpUpdate, tenant.OpDelete}, func(op string) bool {
			return t.Filter.TakesCollection(collection, op)
		})
	})
}

// caused makes the entries of a change. One beyond the end of its chain is made all the same, for the record that it was stopped.
func (c *call) caused(snapshot *tenant.Snapshot, kind outbox.Kind, change data.Change) ([]*outbox.Entry, error) {
	what := &trigger.Change{
		Kind: kind, Op: change.Op, Collection: change.Collection, Key: change.Key, Data: change.Value, Previous: change.Previous,
	}
	cause := *c.run.Entry
	deep := cause.Depth >= outbox.MaxDepth
	if deep {
		cause.Depth = outbox.MaxDepth - 1
	}
	var entries []*outbox.Entry
	for _, t := range trigger.Match(snapshot, change.App, what, c.unfit) {
		e, err := trigger.Caused(t, what, &cause)
		if wrong := (*tenant.Invalid)(nil); errors.As(err, &wrong) {
			return nil, &misfit{fmt.Errorf("the trigger %q: %w", t.Name, err)}
		}
		if err != nil {
			return nil, err
		}
		if deep {
			e.Depth = outbox.MaxDepth + 1
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// misfit says that a trigger's policy cannot be applied to a change, which is not made therefore.
type misfit struct{ error }

// dataRefusal says in a script's terms why data was not read or written.
func (c *call) dataRefusal(ctx context.Context, err error) error {
	var rejected *outbox.Rejected
	var overloaded *outbox.Overloaded
	var policy *misfit
	var unserved *data.Unserved
	var conflict *tenant.Conflict
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, data.ErrConflict):
		return fault.New(fault.Conflict, fault.Script, "%v: read it again, then write", err)
	case errors.Is(err, data.ErrNoNumber), errors.Is(err, data.ErrEffort):
		return invalid("%v", err)
	case errors.Is(err, data.ErrNone):
		return fault.New(fault.NotFound, fault.Script, "%v", err)
	case errors.Is(err, data.ErrQuota):
		return fault.New(fault.Limit, fault.Script, "%v: %d bytes; delete some", err, int64(filesQuota))
	case errors.Is(err, data.ErrDocExists):
		return fault.New(fault.Conflict, fault.Script, "%v", err)
	case errors.As(err, &unserved):
		return invalid("%v", unserved)
	case errors.As(err, &conflict):
		return fault.New(fault.Conflict, fault.Script, "%s", conflict.Message)
	case errors.Is(err, tenant.ErrNotFound):
		return fault.New(fault.NotFound, fault.Script, "there is no document of this id in the collection")
	case errors.Is(err, tenant.ErrCursor):
		return invalid("cursor: is none that a list has returned")
	case errors.As(err, &overloaded):
		return c.refusal(ctx, c.run.Entry, err)
	case errors.As(err, &policy):
		return invalid("nothing was changed: %v", policy.error)
	case errors.As(err, &rejected):
		return invalid("the value cannot be stored: %v", rejected.Err)
	}
	c.log.Warn("data not reached", "execution_id", c.run.Entry.ID, "error", err)
	f := fault.New(fault.Unavailable, fault.Platform, "the data cannot be reached now; a write may have been made or not")
	f.RetryAfter = time.Second
	return f
}
