package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/tenant"
)

// SecretStore keeps sealed values and the ring of their keys. It cannot open either.
type SecretStore struct{ pool *pgxpool.Pool }

// NewSecretStore makes a store over pool.
func NewSecretStore(pool *pgxpool.Pool) *SecretStore { return &SecretStore{pool} }

// Whoever seals shares the ring's row, whoever changes the ring has it alone: so a key that is taken away seals nothing
// any more. Two that make the first ring at a time wait for this lock, as there is no row yet.
const (
	sqlSecretRingAlone  = `SELECT pg_advisory_xact_lock(hashtextextended('picloud secret ring', 0))`
	sqlSecretRingLock   = `SELECT closed FROM secret_ring FOR UPDATE`
	sqlSecretRingShare  = `SELECT closed FROM secret_ring FOR SHARE`
	sqlSecretRingChange = `
INSERT INTO secret_ring (closed) VALUES ($1) ON CONFLICT (one) DO UPDATE SET closed = excluded.closed, updated_at = now()`
)

const sqlSecretOther = `SELECT count(*) FROM secrets WHERE key <> $1`

// Change replaces the ring.
func (s *SecretStore) Change(
	ctx context.Context, by uuid.UUID, next func(ring []byte, other func(key int64) (int, error)) ([]byte, error),
) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlSecretRingAlone); err != nil {
			return fmt.Errorf("lock ring: %w", err)
		}
		ring, err := readRing(ctx, tx, sqlSecretRingLock)
		if err != nil {
			return err
		}
		changed, err := next(ring, func(key int64) (n int, err error) {
			if err := tx.QueryRow(ctx, sqlSecretOther, key).Scan(&n); err != nil {
				return 0, fmt.Errorf("count secrets: %w", err)
			}
			return n, nil
		})
		if err != nil || changed == nil {
			return err
		}
		if _, err := tx.Exec(ctx, sqlSecretRingChange, changed); err != nil {
			return fmt.Errorf("write ring: %w", err)
		}
		if by == uuid.Nil {
			return nil
		}
		return audit(ctx, tx, &change{by: by, action: "secrets.rotate"})
	})
}

func readRing(ctx context.Context, tx pgx.Tx, sql string) (ring []byte, err error) {
	if err := tx.QueryRow(ctx, sql).Scan(&ring); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read ring: %w", err)
	}
	return ring, nil
}

// sqlSecretSet has nothing to return where the app is gone or has as many as it may.
const sqlSecretSet = `
INSERT INTO secrets AS s (app, name, key, sealed)
SELECT a.id, $2, $3, $4 FROM apps a WHERE a.id = $1 AND a.deleted_at IS NULL
    AND ((SELECT count(*) FROM secrets WHERE app = $1) < $5 OR EXISTS (SELECT 1 FROM secrets WHERE app = $1 AND name = $2))
ON CONFLICT (app, name) DO UPDATE SET key = excluded.key, sealed = excluded.sealed, updated_at = now()
RETURNING s.updated_at`

// The epoch that a script runs under stays while the change is made: a beat of its node passes this lock, its end does not.
const sqlSecretOwner = `SELECT 1 FROM nodes WHERE epoch = $1 FOR KEY SHARE`

// author says whether a change may be made.
func author(ctx context.Context, tx pgx.Tx, by secret.Author) error {
	if by.User != uuid.Nil {
		return nil
	}
	tag, err := tx.Exec(ctx, sqlSecretOwner, by.Owner)
	switch {
	case err != nil:
		return fmt.Errorf("look for the node: %w", err)
	case tag.RowsAffected() == 0:
		return outbox.ErrFenced
	}
	return nil
}

// Set stores a value.
func (s *SecretStore) Set(
	ctx context.Context, by secret.Author, app uuid.UUID, name string, seal func(ring []byte) (secret.Sealed, error),
) (secret.Info, error) {
	info := secret.Info{Name: name}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := author(ctx, tx, by); err != nil {
			return err
		}
		ring, err := readRing(ctx, tx, sqlSecretRingShare)
		if err != nil {
			return err
		}
		sealed, err := seal(ring)
		if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, sqlSecretSet, app, name, sealed.Key, sealed.Text, secret.MaxPerApp).Scan(&info.UpdatedAt)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return &tenant.Conflict{Message: fmt.Sprintf("the app has %d secrets, which is the most: delete some first", secret.MaxPerApp)}
		case err != nil:
			return fmt.Errorf("write secret: %w", err)
		case by.User == uuid.Nil:
			return nil
		}
		return audit(ctx, tx, &change{by: by.User, app: app, action: "secret.set", object: name})
	})
	return info, err
}

const sqlSecretGet = `
SELECT s.key, s.sealed, r.closed FROM secrets s JOIN apps a ON a.id = s.app AND a.deleted_at IS NULL, secret_ring r
WHERE s.app = $1 AND s.name = $2`

// Get returns a sealed value with the ring as it is now, or tenant.ErrNotFound.
func (s *SecretStore) Get(ctx context.Context, app uuid.UUID, name string) (sealed secret.Sealed, ring []byte, err error) {
	err = s.pool.QueryRow(ctx, sqlSecretGet, app, name).Scan(&sealed.Key, &sealed.Text, &ring)
	return sealed, ring, missing("read secret", err)
}

const sqlSecretDelete = `DELETE FROM secrets WHERE app = $1 AND name = $2`

// Delete removes a secret, or is tenant.ErrNotFound.
func (s *SecretStore) Delete(ctx context.Context, by secret.Author, app uuid.UUID, name string) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := author(ctx, tx, by); err != nil {
			return err
		}
		if err := execOne(ctx, tx, "delete secret", sqlSecretDelete, app, name); err != nil || by.User == uuid.Nil {
			return err
		}
		return audit(ctx, tx, &change{by: by.User, app: app, action: "secret.delete", object: name})
	})
}

const sqlSecretList = `
SELECT s.name, s.updated_at FROM secrets s JOIN apps a ON a.id = s.app AND a.deleted_at IS NULL
WHERE s.app = $1 AND s.name > $2 ORDER BY s.name LIMIT $3`

// List returns up to limit secrets by name from cursor on, and the cursor of the next page.
func (s *SecretStore) List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]secret.Info, string, error) {
	var after string
	if err := decodeCursor(cursor, &after); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlSecretList, app, after, limit+1)
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (i secret.Info, err error) {
		err = row.Scan(&i.Name, &i.UpdatedAt)
		return i, err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list secrets: %w", err)
	}
	list, next := page(list, limit, func(i *secret.Info) []any { return []any{i.Name} })
	return list, next, nil
}

// Several may reseal at a time, each its own rows; what a script sets meanwhile is sealed anew already.
const sqlSecretOld = `
SELECT app, name, key, sealed FROM secrets WHERE key <> $1 ORDER BY app, name LIMIT $2 FOR UPDATE SKIP LOCKED`

const sqlSecretReseal = `
UPDATE secrets s SET key = n.key, sealed = n.sealed
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bytea[]) n (app, name, key, sealed) WHERE s.app = n.app AND s.name = n.name`

// Reseal replaces secrets that are not sealed with the key which current names.
func (s *SecretStore) Reseal(
	ctx context.Context, limit int, current func(ring []byte) (int64, error), again func(secret.Row) (secret.Sealed, error),
) (n int, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		ring, err := readRing(ctx, tx, sqlSecretRingShare)
		if err != nil {
			return err
		}
		key, err := current(ring)
		if err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, sqlSecretOld, key, limit)
		old, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r secret.Row, err error) {
			err = row.Scan(&r.App, &r.Name, &r.Key, &r.Text)
			return r, err
		})
		if err != nil {
			return fmt.Errorf("read secrets: %w", err)
		}
		var apps []uuid.UUID
		var names []string
		var keys []int64
		var texts [][]byte
		for _, r := range old {
			sealed, err := again(r)
			if err != nil {
				return err
			}
			apps, names = append(apps, r.App), append(names, r.Name)
			keys, texts = append(keys, sealed.Key), append(texts, sealed.Text)
		}
		if _, err := tx.Exec(ctx, sqlSecretReseal, apps, names, keys, texts); err != nil {
			return fmt.Errorf("write secrets: %w", err)
		}
		n = len(old)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
