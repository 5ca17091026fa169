package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/picloud/picloud/core/notice"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/sdk/fault"
)

// insertCaused writes entries in the transaction of a change of data, which commits them with it, and returns those that were
// written. The transaction has locked what it changes already, and locks nothing more afterwards. What would make a chain of events
// too long is not written but recorded as stopped: the change stands.
func insertCaused(ctx context.Context, tx pgx.Tx, owner int64, entries []*outbox.Entry) (written []*outbox.Entry, err error) {
	var near []*outbox.Entry
	for _, e := range entries {
		if e.Depth <= outbox.MaxDepth {
			near = append(near, e)
		} else if err := stopped(ctx, tx, e, outbox.ErrTooDeep, noEvent); err != nil {
			return nil, err
		}
	}
	if len(near) == 0 {
		return nil, nil
	}
	w := newKeyedWrite(tx, near)
	if err := w.run(ctx, owner, false); err != nil {
		return nil, rejected(err)
	}
	for i, refused := range w.refused {
		switch {
		case refused == nil:
			written = append(written, near[i])
		case errors.Is(refused, outbox.ErrBudget):
			if err := stopped(ctx, tx, near[i], refused, noEvent); err != nil {
				return nil, err
			}
		default:
			return nil, refused
		}
	}
	return written, nil
}

const noEvent = "no event for the change of data"

// sqlCausedStopped records an entry that was not made, such as since its chain of events must not grow.
const sqlCausedStopped = `
INSERT INTO executions (id, attempt, finished_at, app, script, trigger, kind, outcome, reason, depth, event_id, root_id,
    accepted_at, started_at, duration_us, node, error, fault)
VALUES ($1, 0, clock_timestamp(), $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp(), clock_timestamp(), 0, 0, $11, 'script')`

// stopped records that e was not written. what begins the reason that people read.
func stopped(ctx context.Context, tx pgx.Tx, e *outbox.Entry, why error, what string) error {
	reason := fault.LoopBudget
	if errors.Is(why, outbox.ErrTooDeep) {
		reason = fault.LoopDepth
	}
	return recordStopped(ctx, tx, e, string(reason), what+": "+why.Error())
}

// execer is a pool or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func recordStopped(ctx context.Context, to execer, e *outbox.Entry, reason, why string) error {
	_, err := to.Exec(ctx, sqlCausedStopped, e.ID, e.App, e.Target, e.Trigger, e.Kind, outbox.Stopped, reason, e.Depth, e.EventID, e.RootID, why)
	if err != nil {
		return fmt.Errorf("record stopped entry: %w", err)
	}
	return nil
}

// Stopped records that an entry was not made, and why.
func (s *ExecutionStore) Stopped(ctx context.Context, e *outbox.Entry, reason, why string) error {
	return recordStopped(ctx, s.pool, e, reason, why)
}

var _ notice.Store = (*ExecutionStore)(nil)
