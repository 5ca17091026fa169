package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/auth"
)

// UserStore keeps users and their API keys.
type UserStore struct{ pool *pgxpool.Pool }

// NewUserStore makes a store over pool.
func NewUserStore(pool *pgxpool.Pool) *UserStore { return &UserStore{pool} }

// Two nodes that start at one time on a new database make one owner: the second waits for the first's row and leaves it.
const sqlUserFirst = `
INSERT INTO users (id, name, role) SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT 1 FROM users)
ON CONFLICT (name) DO NOTHING`

const sqlUserKey = `
INSERT INTO api_keys (id, user_id, name, prefix, hash, scopes) VALUES ($1, $2, $3, $4, $5, $6)`

// CreateOwner stores the user of key and the key if there is no user at all, and reports whether it did.
func (s *UserStore) CreateOwner(ctx context.Context, key auth.Key) (created bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlUserFirst, key.User, key.Login, key.Role)
		if err != nil {
			return fmt.Errorf("insert owner: %w", err)
		}
		if created = tag.RowsAffected() == 1; !created {
			return nil
		}
		if _, err := tx.Exec(ctx, sqlUserKey, key.ID, key.User, key.Name, key.Prefix, key.Hash, key.Scopes); err != nil {
			return fmt.Errorf("insert key: %w", err)
		}
		return audit(ctx, tx, &change{action: "user.bootstrap", object: key.Login})
	})
	return created && err == nil, err
}

const sqlUserKeyByPrefix = `
SELECT k.id, k.name, k.prefix, k.hash, k.app, k.scopes, k.expires_at, u.id, u.name, u.role, u.active
FROM api_keys k JOIN users u ON u.id = k.user_id WHERE k.prefix = $1`

// KeyByPrefix returns the key with a prefix, or auth.ErrNoKey.
func (s *UserStore) KeyByPrefix(ctx context.Context, prefix string) (auth.Key, error) {
	var k auth.Key
	var app *uuid.UUID
	var expires *time.Time
	err := s.pool.QueryRow(ctx, sqlUserKeyByPrefix, prefix).Scan(
		&k.ID, &k.Name, &k.Prefix, &k.Hash, &app, &k.Scopes, &expires, &k.User, &k.Login, &k.Role, &k.Active,
	)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return k, auth.ErrNoKey
	case err != nil:
		return k, fmt.Errorf("read key: %w", err)
	}
	k.App = orNil(app)
	if expires != nil {
		k.ExpiresAt = *expires
	}
	return k, nil
}

const sqlUserActive = `SELECT EXISTS (SELECT 1 FROM users WHERE id = $1 AND active)`

// ActiveUser reports whether there is a user who is active.
func (s *UserStore) ActiveUser(ctx context.Context, id uuid.UUID) (active bool, err error) {
	if err := s.pool.QueryRow(ctx, sqlUserActive, id).Scan(&active); err != nil {
		return false, fmt.Errorf("read user: %w", err)
	}
	return active, nil
}
