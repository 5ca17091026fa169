package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PauseStore keeps which lanes start nothing.
type PauseStore struct{ pool *pgxpool.Pool }

// NewPauseStore makes a store over pool.
func NewPauseStore(pool *pgxpool.Pool) *PauseStore { return &PauseStore{pool} }

const (
	sqlPauseSet = `
INSERT INTO pauses (app, lane, paused_by) VALUES ($1, $2, nullif($3::uuid, '00000000-0000-0000-0000-000000000000'))
ON CONFLICT DO NOTHING`
	sqlPauseClear = `DELETE FROM pauses WHERE app = $1 AND lane = $2`
)

// Pause has a lane of the app start nothing more, or every lane where lane is the zero id. What runs comes to its end, and
// what is sent waits. Pausing what is paused changes nothing.
func (s *PauseStore) Pause(ctx context.Context, by, app, lane uuid.UUID) error {
	return s.set(ctx, &change{by: by, app: app, action: "lane.pause", object: laneName(lane)}, sqlPauseSet, app, lane, by)
}

// Resume ends a pause. Resuming what is not paused changes nothing.
func (s *PauseStore) Resume(ctx context.Context, by, app, lane uuid.UUID) error {
	return s.set(ctx, &change{by: by, app: app, action: "lane.resume", object: laneName(lane)}, sqlPauseClear, app, lane)
}

func (s *PauseStore) set(ctx context.Context, c *change, sql string, args ...any) error {
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sql, args...); err != nil {
			return fmt.Errorf("%s: %w", c.action, err)
		}
		return nil
	})
	return err
}

func laneName(lane uuid.UUID) string {
	if lane == uuid.Nil {
		return "app"
	}
	return lane.String()
}

const sqlPauseGet = `
SELECT EXISTS (SELECT 1 FROM pauses WHERE app = $1 AND lane IN ($2, '00000000-0000-0000-0000-000000000000'))`

// Paused reports whether a lane, or the whole app, is paused.
func (s *PauseStore) Paused(ctx context.Context, app, lane uuid.UUID) (paused bool, err error) {
	if err := s.pool.QueryRow(ctx, sqlPauseGet, app, lane).Scan(&paused); err != nil {
		return false, fmt.Errorf("read pauses: %w", err)
	}
	return paused, nil
}
