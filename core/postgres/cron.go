package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/cron"
	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/outbox"
)

// CronStore keeps when each trigger of kind cron fires next.
type CronStore struct{ pool *pgxpool.Pool }

// NewCronStore makes a store over pool.
func NewCronStore(pool *pgxpool.Pool) *CronStore { return &CronStore{pool} }

const (
	// sqlCronVersion holds changes of the configuration, and the plans of others, back until this one is made.
	sqlCronVersion = `SELECT version FROM config FOR UPDATE`

	sqlCronPlan = `
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::boolean[])
    AS w (app, trigger, spec, next_at, paused)
), gone AS (
    DELETE FROM cron_state c WHERE NOT EXISTS (SELECT 1 FROM wanted w WHERE w.app = c.app AND w.trigger = c.trigger)
)
INSERT INTO cron_state AS c (app, trigger, spec, next_at, paused) SELECT * FROM wanted
ON CONFLICT (app, trigger) DO UPDATE SET spec = excluded.spec, paused = excluded.paused,
    next_at = CASE WHEN c.spec = excluded.spec THEN c.next_at ELSE excluded.next_at END
WHERE (c.spec, c.paused) IS DISTINCT FROM (excluded.spec, excluded.paused)`
)

// Plan makes the times be those of plans, which are all triggers of a version of the configuration. One whose schedule is what it
// was keeps its time. cron.ErrOld: there is a newer version.
func (s *CronStore) Plan(ctx context.Context, version int64, plans []cron.Plan) error {
	n := len(plans)
	apps, triggers := make([][16]byte, n), make([][16]byte, n)
	specs, times, paused := make([]string, n), make([]time.Time, n), make([]bool, n)
	for i, p := range plans {
		apps[i], triggers[i], specs[i], times[i], paused[i] = p.App, p.Trigger, p.Spec, p.At, p.Paused
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var now int64
		if err := tx.QueryRow(ctx, sqlCronVersion).Scan(&now); err != nil {
			return fmt.Errorf("read configuration version: %w", err)
		}
		if now > version {
			return cron.ErrOld
		}
		if _, err := tx.Exec(ctx, sqlCronPlan, apps, triggers, specs, times, paused); err != nil {
			return fmt.Errorf("plan times: %w", err)
		}
		return nil
	})
}

const (
	sqlCronDue = `
SELECT app, trigger, next_at FROM cron_state
WHERE NOT paused AND next_at <= $1 AND (next_at, app, trigger) > ($2, $3, $4) ORDER BY next_at, app, trigger LIMIT $5`

	sqlCronNext = `SELECT next_at FROM cron_state WHERE NOT paused AND next_at > $1 ORDER BY next_at LIMIT 1`
)

// Due returns up to limit triggers whose time has come by now, the latest last and those of an app together, from the one behind after on.
func (s *CronStore) Due(ctx context.Context, now time.Time, after cron.Due, limit int) ([]cron.Due, error) {
	rows, _ := s.pool.Query(ctx, sqlCronDue, now, after.At, after.App, after.Trigger, limit)
	due, err := pgx.CollectRows(rows, pgx.RowToStructByPos[cron.Due])
	if err != nil {
		return nil, fmt.Errorf("look for times that have come: %w", err)
	}
	return due, nil
}

// Next returns the first time after now, zero if there is none.
func (s *CronStore) Next(ctx context.Context, now time.Time) (next time.Time, err error) {
	err = s.pool.QueryRow(ctx, sqlCronNext, now).Scan(&next)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return next, fmt.Errorf("look for the next time: %w", err)
	}
	return next, nil
}

// sqlCronFire moves triggers of an app on, but for those that another node has in its hands, or has had.
const sqlCronFire = `
WITH mine AS (
    SELECT c.trigger, w.next_at FROM cron_state c JOIN unnest($2::uuid[], $3::timestamptz[], $4::timestamptz[]) AS w (trigger, at, next_at)
    ON c.app = $1 AND c.trigger = w.trigger AND c.next_at = w.at AND NOT c.paused
    FOR UPDATE OF c SKIP LOCKED
)
UPDATE cron_state c SET next_at = mine.next_at FROM mine WHERE c.app = $1 AND c.trigger = mine.trigger RETURNING c.trigger`

// Fire moves triggers of one app on to their next times and writes the entries of those that have come, in one transaction, under the
// owner's epoch. It returns the entries of those that it has moved: another node may have been faster. Errors, with which nothing was
// done unless they leave that open, are those of InsertAll.
func (s *CronStore) Fire(ctx context.Context, owner int64, firings []cron.Firing) (written []*outbox.Entry, err error) {
	n := len(firings)
	triggers, times, next := make([][16]byte, n), make([]time.Time, n), make([]time.Time, n)
	for i, f := range firings {
		triggers[i], times[i], next[i] = f.Trigger, f.At, f.Next
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sqlCronFire, firings[0].App, triggers, times, next)
		moved, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return fmt.Errorf("move triggers on: %w", err)
		}
		for _, f := range firings {
			if slices.Contains(moved, f.Trigger) {
				written = append(written, f.Entry)
			}
		}
		if len(written) == 0 {
			return nil
		}
		failpoint.Hit(failpoint.DataChanged)
		if err := insertTogether(ctx, tx, owner, written); err != nil {
			return err
		}
		failpoint.Hit(failpoint.DataCaused)
		return nil
	})
	failpoint.Hit(failpoint.DataCommitted)
	if err != nil {
		return nil, err
	}
	return written, nil
}

var _ cron.Store = (*CronStore)(nil)
