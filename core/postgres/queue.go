package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/tenant"
)

// QueueStore keeps the queues of apps.
type QueueStore struct{ pool *pgxpool.Pool }

// NewQueueStore makes a store over pool.
func NewQueueStore(pool *pgxpool.Pool) *QueueStore { return &QueueStore{pool} }

const (
	queueColumns = `q.id, q.app, q.name, q.script, q.policy, s.name, q.created_at, q.updated_at,
    EXISTS (SELECT 1 FROM pauses p WHERE p.app = q.app AND p.lane IN (q.id, q.script, '00000000-0000-0000-0000-000000000000'))`
	queueTables = ` FROM queues q JOIN scripts s ON s.id = q.script JOIN apps a ON a.id = q.app AND a.deleted_at IS NULL `
)

func scanQueue(row pgx.CollectableRow) (q tenant.QueueRecord, err error) {
	err = row.Scan(&q.ID, &q.App, &q.Name, &q.Script, &q.Policy, &q.ScriptName, &q.CreatedAt, &q.UpdatedAt, &q.Paused)
	return q, err
}

const sqlQueueCreate = `
INSERT INTO queues (id, app, name, script, policy)
SELECT $1, s.app, $3, s.id, $5 FROM scripts s WHERE s.app = $2 AND s.id = $4 AND s.kind = 'endpoint'
ON CONFLICT (app, name) DO NOTHING`

// errNoTarget says that entries cannot be sent to what a change names.
var errNoTarget = &tenant.Invalid{Field: "script", Message: "the app has no endpoint of that name or id; a module cannot be called"}

// Create makes a queue. A name in use is a *tenant.Conflict, a script that cannot be called *tenant.Invalid.
func (s *QueueStore) Create(ctx context.Context, by uuid.UUID, q tenant.Queue) (tenant.QueueRecord, error) {
	var err error
	if q.ID, err = uuid.NewV7(); err != nil {
		return tenant.QueueRecord{}, fmt.Errorf("make queue id: %w", err)
	}
	c := &change{by: by, app: q.App, action: "queue.create", object: q.Name, released: true}
	_, err = apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlQueueCreate, q.ID, q.App, q.Name, q.Script, q.Policy)
		if err != nil {
			return fmt.Errorf("insert queue: %w", err)
		}
		if tag.RowsAffected() == 1 {
			return nil
		}
		rows, _ := tx.Query(ctx, sqlQueueGet, q.App, q.Name, uuid.Nil)
		there, err := pgx.CollectExactlyOneRow(rows, scanQueue)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return errNoTarget
		case err != nil:
			return fmt.Errorf("read queue: %w", err)
		}
		return &tenant.Conflict{Message: fmt.Sprintf("the app has a queue named %q already", q.Name), With: there.ID}
	})
	if err != nil {
		return tenant.QueueRecord{}, err
	}
	return s.Get(ctx, q.App, q.ID.String())
}

const sqlQueueGet = `SELECT ` + queueColumns + queueTables + `WHERE q.app = $1 AND (q.name = $2 OR q.id = $3)`

// Get returns the queue that ref names by name or id, or tenant.ErrNotFound.
func (s *QueueStore) Get(ctx context.Context, app uuid.UUID, ref string) (tenant.QueueRecord, error) {
	rows, _ := s.pool.Query(ctx, sqlQueueGet, app, ref, parseID(ref))
	q, err := pgx.CollectExactlyOneRow(rows, scanQueue)
	return q, missing("read queue", err)
}

const sqlQueueList = `SELECT ` + queueColumns + queueTables + `WHERE q.app = $1 AND q.name > $2 ORDER BY q.name LIMIT $3`

// List returns up to limit queues by name from cursor on, and the cursor of the next page.
func (s *QueueStore) List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.QueueRecord, string, error) {
	var after string
	if err := decodeCursor(cursor, &after); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlQueueList, app, after, limit+1)
	queues, err := pgx.CollectRows(rows, scanQueue)
	if err != nil {
		return nil, "", fmt.Errorf("list queues: %w", err)
	}
	queues, next := page(queues, limit, func(q *tenant.QueueRecord) []any { return []any{q.Name} })
	return queues, next, nil
}

const sqlQueueUpdate = `
UPDATE queues q SET script = s.id, policy = coalesce($4, q.policy), updated_at = now()
FROM scripts s
WHERE q.app = $1 AND q.id = $2 AND s.app = $1 AND s.id = coalesce($3, q.script) AND s.kind = 'endpoint'`

// Update changes the script or the policy of a queue; nil leaves it. Messages that wait go to the script that they were
// sent to, under the limits that the queue has when they start.
func (s *QueueStore) Update(
	ctx context.Context, by, app, id uuid.UUID, script *uuid.UUID, policy *tenant.Policy,
) (tenant.QueueRecord, error) {
	c := &change{by: by, app: app, action: "queue.update", object: id.String(), detail: policy, released: true}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sqlQueueGet, app, "", id)
		if _, err := pgx.CollectExactlyOneRow(rows, scanQueue); err != nil {
			return missing("read queue", err)
		}
		tag, err := tx.Exec(ctx, sqlQueueUpdate, app, id, script, policy)
		if err != nil {
			return fmt.Errorf("update queue: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return errNoTarget
		}
		return nil
	})
	if err != nil {
		return tenant.QueueRecord{}, err
	}
	return s.Get(ctx, app, id.String())
}

const sqlQueueDelete = `DELETE FROM queues WHERE app = $1 AND id = $2`

// Delete removes a queue that is empty; else it is a *tenant.Conflict.
func (s *QueueStore) Delete(ctx context.Context, by, app, id uuid.UUID) error {
	c := &change{by: by, app: app, action: "queue.delete", object: id.String(), released: true}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		waiting, running, err := countQueue(ctx, tx, app, id)
		if err != nil {
			return err
		}
		if waiting+running > 0 {
			return &tenant.Conflict{Message: "the queue has messages that have not ended: wait for them or cancel them first"}
		}
		return execOne(ctx, tx, "delete queue", sqlQueueDelete, app, id)
	})
	return err
}

// sqlQueueCounts counts by the indexes of the states, as sqlOutboxBacklog does.
const sqlQueueCounts = `
SELECT (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE state = 1 AND app = $1 AND lane = $2 LIMIT 10000) x)
    + (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE state = 3 AND app = $1 AND lane = $2 LIMIT 10000) x)
    + (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE state = 0 AND app = $1 AND lane = $2 LIMIT 10000) x),
    (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE state = 2 AND app = $1 AND lane = $2 LIMIT 10000) x)`

// Counts returns how many messages of a queue wait and how many run, of each state up to 10,000.
func (s *QueueStore) Counts(ctx context.Context, app, id uuid.UUID) (waiting, running int, err error) {
	return countQueue(ctx, s.pool, app, id)
}

func countQueue(ctx context.Context, db querier, app, id uuid.UUID) (waiting, running int, err error) {
	if err := db.QueryRow(ctx, sqlQueueCounts, app, id).Scan(&waiting, &running); err != nil {
		return 0, 0, fmt.Errorf("count messages: %w", err)
	}
	return waiting, running, nil
}
