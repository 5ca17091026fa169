package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/deadletter"
	"github.com/picloud/picloud/core/outbox"
)

const (
	sqlAnnounceTake = `
SELECT d.id, d.app, d.event_id, d.target, coalesce(s.name, ''), d.root_id, d.kind, d.attempts, d.reason, d.error, d.fault,
    d.version, d.depth, d.accepted_at, d.created_at, d.envelope, d.payload
FROM dead_letters d LEFT JOIN scripts s ON s.id = d.target AND s.app = d.app
WHERE NOT d.announced ORDER BY d.created_at LIMIT 100 FOR UPDATE OF d SKIP LOCKED`

	sqlAnnounceDone = `UPDATE dead_letters SET announced = true WHERE id = ANY ($1::uuid[])`

	// sqlAnnounceStopped records that a letter was brought to nobody, since it is at the end of a chain of events.
	sqlAnnounceStopped = `
INSERT INTO executions (id, attempt, finished_at, app, script, kind, outcome, reason, depth, event_id, root_id, accepted_at,
    started_at, duration_us, node, error, fault)
SELECT gen_random_uuid(), 0, clock_timestamp(), app, target, 5, 6, 'loop_depth', depth + 1, event_id, root_id, clock_timestamp(),
    clock_timestamp(), 0, 0, 'the dead letter ' || id || ' is too many events away from its first cause for a handler', 'script'
FROM dead_letters WHERE id = ANY ($1::uuid[])`
)

// Announce takes up to 100 dead letters that are new, writes the entries of their handlers and marks the letters.
func (s *DeadLetterStore) Announce(
	ctx context.Context, owner int64, handlers func(l *deadletter.Letter) ([]*outbox.Entry, bool, error),
) (letters, entries int, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sqlAnnounceTake)
		list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l deadletter.Letter, err error) {
			err = row.Scan(&l.ID, &l.App, &l.EventID, &l.Target, &l.TargetName, &l.RootID, &l.Kind, &l.Attempts, &l.Reason, &l.Error,
				&l.Fault, &l.Version, &l.Depth, &l.AcceptedAt, &l.CreatedAt, &l.Envelope, &l.Payload)
			return l, err
		})
		if err != nil {
			return fmt.Errorf("read new dead letters: %w", err)
		}
		if letters = len(list); letters == 0 {
			return nil
		}
		var made []*outbox.Entry
		var all, stopped []uuid.UUID
		for i := range list {
			l := &list[i]
			all = append(all, l.ID)
			some, tooDeep, err := handlers(l)
			switch {
			case err != nil:
				return fmt.Errorf("make handlers of %s: %w", l.ID, err)
			case tooDeep:
				stopped = append(stopped, l.ID)
			}
			made = append(made, some...)
		}
		if entries = len(made); entries > 0 {
			if err := insertFull(ctx, tx, owner, made, nil); err != nil {
				return err
			}
		}
		if len(stopped) > 0 {
			if _, err := tx.Exec(ctx, sqlAnnounceStopped, stopped); err != nil {
				return fmt.Errorf("record stopped handlers: %w", err)
			}
		}
		if _, err := tx.Exec(ctx, sqlAnnounceDone, all); err != nil {
			return fmt.Errorf("mark dead letters: %w", err)
		}
		return nil
	})
	return letters, entries, err
}
