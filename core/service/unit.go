package service

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/sdk/fault"
)

// Unit gathers what a run of a transactional script reads and wants to have done. Nothing of it is done before the run has ended
// well. Safe for concurrent use.
type Unit struct {
	mu       sync.Mutex
	call     *call // any of the run
	reads    map[data.Row]int64
	rows     map[data.Row]*staged
	order    []data.Row
	sends    [][]*outbox.Entry
	keys     map[sentKey]*outbox.Entry // of sends
	ops      int
	bytes    int
	conflict bool  // a row was read twice, and has changed between
	over     bool  // the run has ended: calls that it has not waited for change nothing of the work any more
	writes   int64 // versions of what is staged count down from zero: they mean nothing after the run
}

// staged is a row as the run sees it.
type staged struct {
	data.Staged
	version int64
	created time.Time
	updated time.Time
}

// sentKey is an idempotency key and where it is one.
type sentKey struct {
	scope uuid.UUID
	key   string
}

// NewUnit makes an empty unit.
func NewUnit() *Unit {
	return &Unit{reads: map[data.Row]int64{}, rows: map[data.Row]*staged{}, keys: map[sentKey]*outbox.Entry{}}
}

// Used reports whether there is anything to commit.
func (u *Unit) Used() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.reads)+len(u.rows)+len(u.sends) > 0
}

// Conflict reports whether it is known already that the unit cannot be committed.
func (u *Unit) Conflict() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.conflict
}

// Units know whether something that a run has read has changed since.
type Units interface {
	// Overtaken reports whether some rows of an app have other versions now than those; 0: there was none.
	Overtaken(ctx context.Context, app uuid.UUID, reads map[data.Row]int64) (bool, error)
}

// Overtaken reports whether something that the run has read has changed since. It is asked of a run that has failed: the values that it saw
// may never have been there together. It ends the unit, as Work does, and is false where it cannot be told.
func (u *Unit) Overtaken(ctx context.Context) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
	if len(u.reads) == 0 {
		return false
	}
	is, err := u.call.units.Overtaken(ctx, u.call.run.Entry.App, u.reads)
	return is && err == nil
}

// Work is what has to be done. It ends the unit: what comes later is refused.
func (u *Unit) Work() *data.Unit {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
	w := &data.Unit{Reads: u.reads, Sends: u.sends}
	for _, row := range u.order {
		s := u.rows[row]
		version, read := u.reads[row]
		if s.Value != nil || version != 0 || !read { // not what the run itself has made and deleted
			w.Writes = append(w.Writes, s.Staged)
		}
	}
	return w
}

// Sends is how many events the work makes, and how many bytes they take, roughly: what it sends, and the changes that triggers look at.
func (u *Unit) Sends() (events, bytes int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, group := range u.sends {
		for _, e := range group {
			events, bytes = events+1, bytes+len(e.Payload)+len(e.Envelope)
		}
	}
	snapshot := u.call.snapshot()
	for row, s := range u.rows {
		if watched(snapshot.Triggers(u.call.run.Entry.App, row.Kind.String()), row.Collection) {
			events, bytes = events+1, bytes+len(s.Value)
		}
	}
	return events, bytes
}

// Caused makes the entries that triggers make of a change, by the configuration as it is now; nil: none takes any of the collection.
func (u *Unit) Caused(kind outbox.Kind, collection string) data.Caused {
	u.mu.Lock()
	c := u.call
	u.mu.Unlock()
	snapshot := c.snapshot()
	if !watched(snapshot.Triggers(c.run.Entry.App, kind.String()), collection) {
		return nil
	}
	return func(change data.Change) ([]*outbox.Entry, error) { return c.caused(snapshot, kind, change) }
}

// Refusal says why a unit could not be committed, in terms of its script; nil: it is no fault of the script's.
func (u *Unit) Refusal(err error) *fault.Fault {
	if policy := (*misfit)(nil); errors.As(err, &policy) {
		return fault.New(fault.ScriptError, fault.Script, "nothing was changed: %v", policy.error)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	f := refused(u.call.run.Entry, err)
	if f != nil && (f.Kind == fault.Invalid || f.Kind == fault.Overloaded) { // the run has begun: it is the script that failed
		f.Kind = fault.ScriptError
	}
	return f
}

// errOver is for a run that did not wait for its own calls: nobody reads it.
var errOver = fault.New(fault.Cancelled, fault.Script, "the run has ended")

// add counts what is staged.
func (u *Unit) add(ops, bytes int) error {
	if u.over {
		return errOver
	}
	if u.ops+ops > data.MaxStaged {
		return fault.New(fault.Limit, fault.Script, "a transactional run writes and sends more than %d things: divide the work", data.MaxStaged)
	}
	if u.bytes+bytes > data.MaxStagedBytes {
		return fault.New(fault.Limit, fault.Script, "a transactional run writes and sends more than %d bytes: divide the work", data.MaxStagedBytes)
	}
	u.ops += ops
	u.bytes += bytes
	return nil
}

// read remembers the version of a row that was read. What was read twice has to be the same.
func (u *Unit) read(row data.Row, version int64) error {
	before, again := u.reads[row]
	switch {
	case u.over:
		return errOver
	case again && before != version:
		u.conflict = true
		return fault.New(fault.Conflict, fault.Platform, "%v", data.ErrUnitConflict)
	case !again && len(u.reads) == data.MaxStaged:
		return fault.New(fault.Limit, fault.Script, "a transactional run reads more than %d values and documents: divide the work", data.MaxStaged)
	}
	u.reads[row] = version
	return nil
}

// write stages a row, and returns its version as the run sees it.
func (u *Unit) write(w data.Staged) (*staged, error) {
	if err := u.add(1, len(w.Key)+len(w.Value)); err != nil {
		return nil, err
	}
	if u.rows[w.Row] == nil {
		u.order = append(u.order, w.Row)
	}
	u.writes--
	s := &staged{Staged: w, version: u.writes, updated: time.Now()}
	if w.TTL > 0 {
		s.ExpiresAt = s.updated.Add(w.TTL)
	}
	if w.Value == nil {
		s.version = 0
	}
	u.rows[w.Row] = s
	return s, nil
}

// stage stages groups of entries, all or none, and returns as what the first of each is known. A group that was sent before under the
// idempotency key of its first, by the run itself or by another, is not sent again. One that another sends before the end is a conflict.
func (c *call) stage(ctx context.Context, groups ...[]*outbox.Entry) ([]uuid.UUID, error) {
	u := c.run.Unit
	u.mu.Lock()
	defer u.mu.Unlock()
	ids, keys := make([]uuid.UUID, len(groups)), map[sentKey]*outbox.Entry{}
	var fresh [][]*outbox.Entry
	for i, group := range groups {
		e := group[0]
		if e.Idempotency == nil {
			ids[i], fresh = e.ID, append(fresh, group)
			continue
		}
		k := sentKey{e.Idempotency.Scope, e.Idempotency.Key}
		before := u.keys[k]
		if before == nil {
			before = keys[k]
		}
		var err error
		switch {
		case before == nil:
			ids[i], err = c.entries.Known(ctx, e.App, e.Idempotency)
		case !bytes.Equal(before.Idempotency.Hash, e.Idempotency.Hash):
			err = outbox.ErrKeyReused
		default:
			ids[i] = before.ID
		}
		if err != nil {
			return nil, c.refusal(ctx, e, err)
		}
		if ids[i] == uuid.Nil {
			ids[i], fresh, keys[k] = e.ID, append(fresh, group), e
		}
	}
	if err := u.send(fresh); err != nil {
		return nil, err
	}
	maps.Copy(u.keys, keys)
	return ids, nil
}

// send stages groups of entries. The mutex is held.
func (u *Unit) send(groups [][]*outbox.Entry) error {
	all := slices.Concat(groups...)
	size := 0
	for _, e := range all {
		size += len(e.Payload) + len(e.Envelope)
	}
	if err := u.add(len(all), size); err != nil {
		return err
	}
	for _, e := range all {
		if e.State = outbox.Ready; e.Delay > 0 || !e.RunAt.IsZero() {
			e.State = outbox.Scheduled
		}
	}
	u.sends = append(u.sends, groups...)
	return nil
}
