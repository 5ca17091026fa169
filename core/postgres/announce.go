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
	// sqlAnnouncePass marks letters of apps in which nobody asks for any, without reading what is in them.
	sqlAnnouncePass = `
UPDATE dead_letters SET announced = true WHERE id = ANY (ARRAY (
    SELECT id FROM dead_letters WHERE NOT announced AND app <> ALL ($1::uuid[]) ORDER BY created_at LIMIT 1000
    FOR UPDATE SKIP LOCKED))`

	sqlAnnounceTake = `
SELECT id, app, coalesce(octet_length(payload), 0) FROM dead_letters
WHERE NOT announced AND app = ANY ($1::uuid[]) ORDER BY created_at LIMIT 100 FOR UPDATE SKIP LOCKED`

	sqlAnnounceVersion = `SELECT version FROM config`

	sqlAnnounceRead = `
SELECT d.id, d.app, d.event_id, d.target, coalesce(s.name, ''), ` + sinkOfLetter + `, d.root_id, d.kind, d.attempts, d.reason, d.error, d.fault,
    d.version, d.depth, d.cause, d.accepted_at, d.created_at, d.envelope, d.payload
FROM dead_letters d LEFT JOIN scripts s ON s.id = d.target AND s.app = d.app LEFT JOIN sinks k ON k.id = d.target AND k.app = d.app
WHERE d.id = ANY ($1::uuid[]) ORDER BY d.created_at`

	sqlAnnounceDone = `UPDATE dead_letters SET announced = true WHERE id = ANY ($1::uuid[])`
)

// Bounds of what one transaction reads of letters, and of how many expressions it holds them against, each of which may take 10 ms: an app
// with many must not use up the time that all have.
const (
	announceBytes       = 16 << 20
	announceExpressions = 300
)

// Announce takes dead letters that are new, writes the entries of their handlers and marks the letters.
func (s *DeadLetterStore) Announce(ctx context.Context, owner int64, c deadletter.Handlers) (letters, entries int, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		a := announcement{tx: tx, owner: owner, handlers: c}
		err := a.run(ctx)
		letters, entries = a.letters, a.entries
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	return letters, entries, nil
}

// announcement is one transaction of Announce.
type announcement struct {
	tx       pgx.Tx
	owner    int64
	handlers deadletter.Handlers

	letters, entries int
}

func (a *announcement) run(ctx context.Context) error {
	apps := a.handlers.Apps()
	tag, err := a.tx.Exec(ctx, sqlAnnouncePass, apps)
	if err != nil {
		return fmt.Errorf("pass over new dead letters: %w", err)
	}
	ids, err := a.take(ctx, apps)
	if err != nil {
		return err
	}
	// Asked after the letters were taken: who was asked for before the first of them died is known by then.
	var version int64
	if err := a.tx.QueryRow(ctx, sqlAnnounceVersion).Scan(&version); err != nil {
		return fmt.Errorf("read configuration version: %w", err)
	}
	if version > a.handlers.Version() {
		return deadletter.ErrOld
	}
	if a.letters = int(tag.RowsAffected()) + len(ids); len(ids) == 0 {
		return nil
	}
	if err := a.hand(ctx, ids); err != nil {
		return err
	}
	if _, err := a.tx.Exec(ctx, sqlAnnounceDone, ids); err != nil {
		return fmt.Errorf("mark dead letters: %w", err)
	}
	return nil
}

// take locks up to 100 new letters of apps, but not more than may be read at once.
func (a *announcement) take(ctx context.Context, apps []uuid.UUID) (ids []uuid.UUID, err error) {
	rows, _ := a.tx.Query(ctx, sqlAnnounceTake, apps)
	var id, app uuid.UUID
	var size, total, expressions int
	_, err = pgx.ForEachRow(rows, []any{&id, &app, &size}, func() error {
		total, expressions = total+size, expressions+a.handlers.Expressions(app)
		if total <= announceBytes && expressions <= announceExpressions || len(ids) == 0 {
			ids = append(ids, id)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for new dead letters: %w", err)
	}
	return ids, nil
}

// hand writes the entries of the letters' handlers.
func (a *announcement) hand(ctx context.Context, ids []uuid.UUID) error {
	rows, _ := a.tx.Query(ctx, sqlAnnounceRead, ids)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l deadletter.Letter, err error) {
		err = row.Scan(&l.ID, &l.App, &l.EventID, &l.Target, &l.TargetName, &l.SinkName, &l.RootID, &l.Kind, &l.Attempts, &l.Reason, &l.Error,
			&l.Fault, &l.Version, &l.Depth, &l.Cause, &l.AcceptedAt, &l.CreatedAt, &l.Envelope, &l.Payload)
		return l, err
	})
	if err != nil {
		return fmt.Errorf("read new dead letters: %w", err)
	}
	var made []*outbox.Entry
	for i := range list {
		some, err := a.handlers.Of(&list[i])
		if err != nil {
			return fmt.Errorf("make handlers of %s: %w", list[i].ID, err)
		}
		for _, e := range some {
			if e.Depth > outbox.MaxDepth {
				if err := stopped(ctx, a.tx, e, outbox.ErrTooDeep, noHandler(e)); err != nil {
					return err
				}
				continue
			}
			made = append(made, e)
		}
	}
	if len(made) == 0 {
		return nil
	}
	// They count in the budget of their first cause, as all that it leads to.
	w := newKeyedWrite(a.tx, made)
	if err := w.run(ctx, a.owner, false); err != nil {
		return err
	}
	a.entries = len(made)
	for i, refused := range w.refused {
		if refused == nil {
			continue
		}
		a.entries--
		if err := stopped(ctx, a.tx, made[i], refused, noHandler(made[i])); err != nil {
			return err
		}
	}
	return nil
}

func noHandler(e *outbox.Entry) string {
	if e.HandlerFor == uuid.Nil {
		return "nobody is told of a failure"
	}
	return "no handler for the dead letter " + e.HandlerFor.String()
}
