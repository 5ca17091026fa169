package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// KVStore keeps values by key. Every write carries the epoch of the node that runs the script: one whose entries were taken over
// changes nothing any more (outbox.ErrFenced).
type KVStore struct{ pool *pgxpool.Pool }

// NewKVStore makes a store over pool.
func NewKVStore(pool *pgxpool.Pool) *KVStore { return &KVStore{pool} }

// A value that has expired is none, though its row may still be there.
const (
	sqlKVGet = `
SELECT key, value, version, expires_at FROM kv_entries
WHERE app = $1 AND collection = $2 AND key = $3 AND (expires_at IS NULL OR expires_at > now())`

	sqlKVHas = `
SELECT EXISTS (SELECT 1 FROM kv_entries
    WHERE app = $1 AND collection = $2 AND key = $3 AND (expires_at IS NULL OR expires_at > now()))`
)

func scanItem(row pgx.CollectableRow) (i data.Item, err error) {
	err = row.Scan(&i.Key, &i.Value, &i.Version, (*zeronull.Timestamptz)(&i.ExpiresAt))
	return i, err
}

// Get returns a value; one of version 0 where there is none.
func (s *KVStore) Get(ctx context.Context, p data.Place) (data.Item, error) {
	rows, _ := s.pool.Query(ctx, sqlKVGet, p.App, p.Collection, p.Key)
	i, err := pgx.CollectExactlyOneRow(rows, scanItem)
	if errors.Is(err, pgx.ErrNoRows) {
		return data.Item{Key: p.Key}, nil
	}
	if err != nil {
		return data.Item{}, fmt.Errorf("read value: %w", err)
	}
	return i, nil
}

// Has reports whether there is a value.
func (s *KVStore) Has(ctx context.Context, p data.Place) (has bool, err error) {
	if err = s.pool.QueryRow(ctx, sqlKVHas, p.App, p.Collection, p.Key).Scan(&has); err != nil {
		return false, fmt.Errorf("look for value: %w", err)
	}
	return has, nil
}

const sqlKVList = `
SELECT key, value, version, expires_at FROM kv_entries
WHERE app = $1 AND collection = $2 AND key > $3 AND key >= $4 AND ($5 = '' OR key < $5)
    AND (expires_at IS NULL OR expires_at > now())
ORDER BY key LIMIT $6`

// maxListed is how many bytes of values a page has at most, but for its first value.
const maxListed = 8 << 20

// List returns up to limit values by key whose keys begin with prefix, from cursor on, and the cursor of the next page.
func (s *KVStore) List(ctx context.Context, app uuid.UUID, collection, prefix, cursor string, limit int) ([]data.Item, string, error) {
	var after string
	if err := decodeCursor(cursor, &after); err != nil {
		return nil, "", err
	}
	rows, err := s.pool.Query(ctx, sqlKVList, app, collection, after, prefix, behind(prefix), limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list values: %w", err)
	}
	defer rows.Close()
	var items []data.Item
	for size := 0; rows.Next(); {
		i, err := scanItem(rows)
		if err != nil {
			return nil, "", fmt.Errorf("list values: %w", err)
		}
		if size += len(i.Value); len(items) > 0 && size > maxListed {
			return items, encodeCursor(items[len(items)-1].Key), nil
		}
		items = append(items, i)
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("list values: %w", err)
	}
	items, next := page(items, limit, func(i *data.Item) []any { return []any{i.Key} })
	return items, next, nil
}

// behind is the first text after all that begin with prefix, byte by byte; empty: there is none.
func behind(prefix string) string {
	trimmed := strings.TrimRight(prefix, "\U0010FFFF")
	if trimmed == "" {
		return ""
	}
	runes := []rune(trimmed)
	last := runes[len(runes)-1] + 1
	if last == 0xD800 { // no letters
		last = 0xE000
	}
	return string(append(runes[:len(runes)-1], last))
}

const (
	sqlKVSet = `
INSERT INTO kv_entries AS k (app, collection, key, value, expires_at)
SELECT $2, $3, $4, $5, now() + nullif($6::bigint, 0) * interval '1 millisecond' WHERE EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)
ON CONFLICT (app, collection, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at,
    version = excluded.version, updated_at = now()
RETURNING version`

	// sqlKVSetNew sets what has no value, or one that has expired.
	sqlKVSetNew = `
INSERT INTO kv_entries AS k (app, collection, key, value, expires_at)
SELECT $2, $3, $4, $5, now() + nullif($6::bigint, 0) * interval '1 millisecond' WHERE EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)
ON CONFLICT (app, collection, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at,
    version = excluded.version, created_at = now(), updated_at = now()
WHERE k.expires_at <= now()
RETURNING version`

	sqlKVSetIf = `
UPDATE kv_entries SET value = $5, expires_at = now() + nullif($6::bigint, 0) * interval '1 millisecond',
    version = nextval('data_versions'), updated_at = now()
WHERE app = $2 AND collection = $3 AND key = $4 AND version = $7 AND (expires_at IS NULL OR expires_at > now())
    AND EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)
RETURNING version`

	sqlKVLive = `SELECT EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)`
)

// Set sets a value under the owner's epoch and returns its version: in one statement, or where it may lead to entries in one
// transaction with them. data.ErrConflict: it has another version than w.If.
func (s *KVStore) Set(ctx context.Context, owner int64, w data.Write, caused data.Caused) (version int64, _ []*outbox.Entry, err error) {
	set := func(db querier) error {
		args := []any{owner, w.App, w.Collection, w.Key, string(w.Value), w.TTL.Milliseconds()}
		sql := sqlKVSet
		switch {
		case w.If == nil:
		case *w.If == 0:
			sql = sqlKVSetNew
		default:
			sql, args = sqlKVSetIf, append(args, *w.If)
		}
		err := db.QueryRow(ctx, sql, args...).Scan(&version)
		return s.unchanged(ctx, db, owner, err, w.If != nil)
	}
	if caused == nil {
		return version, nil, set(s.pool)
	}
	entries, err := s.change(ctx, owner, w.Place, caused, func(tx pgx.Tx, c *data.Change) error {
		c.Value = w.Value
		return set(tx)
	})
	return version, entries, err
}

// unchanged says why a statement that returns a row for each change has returned none. conditional: its condition may not hold.
func (s *KVStore) unchanged(ctx context.Context, db querier, owner int64, err error, conditional bool) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("write value: %w", rejected(err))
	}
	if !conditional {
		return outbox.ErrFenced
	}
	var live bool
	switch err := db.QueryRow(ctx, sqlKVLive, owner).Scan(&live); {
	case err != nil:
		return fmt.Errorf("write value: %w", err)
	case !live:
		return outbox.ErrFenced
	}
	return data.ErrConflict
}

const sqlKVDelete = `
DELETE FROM kv_entries WHERE app = $2 AND collection = $3 AND key = $4 AND ($5::bigint IS NULL OR version = $5)
    AND (expires_at IS NULL OR expires_at > now()) AND EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)`

// Delete deletes a value, and reports whether there was one. data.ErrConflict: it has another version than required, which nil
// leaves open, or there is none.
func (s *KVStore) Delete(
	ctx context.Context, owner int64, p data.Place, required *int64, caused data.Caused,
) (deleted bool, _ []*outbox.Entry, err error) {
	del := func(db querier) error {
		tag, err := db.Exec(ctx, sqlKVDelete, owner, p.App, p.Collection, p.Key, required)
		if err != nil {
			return fmt.Errorf("delete value: %w", err)
		}
		if deleted = tag.RowsAffected() == 1; deleted {
			return nil
		}
		if err := s.unchanged(ctx, db, owner, pgx.ErrNoRows, true); required != nil || !errors.Is(err, data.ErrConflict) {
			return err
		}
		return nil
	}
	if caused == nil {
		return deleted, nil, del(s.pool)
	}
	entries, err := s.change(ctx, owner, p, caused, func(tx pgx.Tx, c *data.Change) error {
		if err := del(tx); err != nil {
			return err
		}
		if c.Op = ""; deleted {
			c.Op = tenant.OpDelete
		}
		return nil
	})
	return deleted, entries, err
}

const sqlKVIncrement = `
INSERT INTO kv_entries AS k (app, collection, key, value, expires_at)
SELECT $2, $3, $4, $5::bigint::text, now() + nullif($6::bigint, 0) * interval '1 millisecond'
WHERE EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)
ON CONFLICT (app, collection, key) DO UPDATE SET
    value = CASE WHEN k.expires_at <= now() THEN excluded.value ELSE (k.value::bigint + $5::bigint)::text END,
    expires_at = CASE WHEN k.expires_at <= now() THEN excluded.expires_at ELSE k.expires_at END,
    version = excluded.version, updated_at = now()
WHERE CASE WHEN k.expires_at <= now() THEN true WHEN k.value ~ '^-?[0-9]{1,16}$' THEN abs(k.value::bigint + $5::bigint) <= 9007199254740991 ELSE false END
RETURNING value::bigint`

// Increment adds to a number and returns the sum. A key without a value counts from 0 and lives for ttl, zero: for ever.
// data.ErrNoNumber: the value is none, or the sum would be one that not every language counts exactly (data.MaxSum).
func (s *KVStore) Increment(
	ctx context.Context, owner int64, p data.Place, by int64, ttl time.Duration, caused data.Caused,
) (sum int64, _ []*outbox.Entry, err error) {
	add := func(db querier) error {
		err := db.QueryRow(ctx, sqlKVIncrement, owner, p.App, p.Collection, p.Key, by, ttl.Milliseconds()).Scan(&sum)
		if err := s.unchanged(ctx, db, owner, err, true); !errors.Is(err, data.ErrConflict) {
			return err
		}
		return data.ErrNoNumber
	}
	if caused == nil {
		return sum, nil, add(s.pool)
	}
	entries, err := s.change(ctx, owner, p, caused, func(tx pgx.Tx, c *data.Change) error {
		if err := add(tx); err != nil {
			return err
		}
		c.Value = fmt.Append(nil, sum)
		return nil
	})
	return sum, entries, err
}

const (
	sqlKVLock = `
SELECT value, coalesce(expires_at <= now(), false) FROM kv_entries WHERE app = $1 AND collection = $2 AND key = $3 FOR UPDATE`

	// sqlKVTurn has those take turns that make the same value.
	sqlKVTurn = `SELECT pg_advisory_xact_lock(hashtextextended($1::text || '/' || $2 || '/' || $3, 7))`
)

// change changes a value in a transaction with the entries that this leads to. do says in c what comes of it: an empty Op is no
// change.
func (s *KVStore) change(
	ctx context.Context, owner int64, p data.Place, caused data.Caused, do func(pgx.Tx, *data.Change) error,
) (entries []*outbox.Entry, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		c := data.Change{Place: p, Op: tenant.OpUpdate}
		if _, err := tx.Exec(ctx, sqlKVTurn, p.App, p.Collection, p.Key); err != nil {
			return fmt.Errorf("lock value: %w", err)
		}
		var before string
		var expired bool
		err := tx.QueryRow(ctx, sqlKVLock, p.App, p.Collection, p.Key).Scan(&before, &expired)
		switch {
		case errors.Is(err, pgx.ErrNoRows), err == nil && expired:
			c.Op = tenant.OpCreate
		case err != nil:
			return fmt.Errorf("lock value: %w", err)
		default:
			c.Previous = []byte(before)
		}
		if err := do(tx, &c); err != nil || c.Op == "" {
			return err
		}
		failpoint.Hit(failpoint.DataChanged)
		if entries, err = caused(c); err != nil {
			return err
		}
		entries, err = insertCaused(ctx, tx, owner, entries)
		failpoint.Hit(failpoint.DataCaused)
		return err
	})
	failpoint.Hit(failpoint.DataCommitted)
	return entries, err
}

const sqlKVExpire = `
DELETE FROM kv_entries WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM kv_entries WHERE expires_at <= now() - interval '1 minute' LIMIT $1 FOR UPDATE SKIP LOCKED))`

// Expire removes up to limit values that expired a while ago, and returns how many.
func (s *KVStore) Expire(ctx context.Context, limit int) (int, error) {
	tag, err := s.pool.Exec(ctx, sqlKVExpire, limit)
	if err != nil {
		return 0, fmt.Errorf("remove expired values: %w", err)
	}
	return int(tag.RowsAffected()), nil
}
