package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/lifecycle"
	"github.com/picloud/picloud/core/outbox"
)

// sqlReleaseUntold has the manifest of each release and of the one before it.
const sqlReleaseUntold = `
SELECT r.app, r.number, a.config_version, r.action, coalesce(r.created_by, '00000000-0000-0000-0000-000000000000'), r.created_at,
    r.manifest->'scripts', (SELECT p.manifest->'scripts' FROM releases p WHERE p.app = r.app AND p.number = r.number - 1)
FROM releases r JOIN apps a ON a.id = r.app WHERE NOT r.told AND a.deleted_at IS NULL AND r.app <> ALL ($1::uuid[])
ORDER BY r.created_at, r.app, r.number LIMIT $2`

// Untold returns releases that nobody was told of, without those of some apps.
func (s *ReleaseStore) Untold(ctx context.Context, without []uuid.UUID, limit int) ([]lifecycle.Release, error) {
	if without == nil {
		without = []uuid.UUID{} // an array in the database, never null
	}
	rows, _ := s.pool.Query(ctx, sqlReleaseUntold, without, limit)
	releases, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r lifecycle.Release, err error) {
		var now, before []byte
		if err := row.Scan(&r.App, &r.Number, &r.Version, &r.Action, &r.By, &r.CreatedAt, &now, &before); err != nil {
			return r, err
		}
		r.Scripts, err = newVersions(now, before)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for releases that nobody was told of: %w", err)
	}
	return releases, nil
}

// newVersions are the scripts that have another version than before.
func newVersions(now, before []byte) (changed []lifecycle.Version, err error) {
	type script struct {
		Name    string `json:"name"`
		Version int    `json:"version"`
	}
	read := func(manifest []byte) (scripts []script, err error) {
		if manifest != nil {
			err = json.Unmarshal(manifest, &scripts)
		}
		return scripts, err
	}
	old, err := read(before)
	if err != nil {
		return nil, err
	}
	scripts, err := read(now)
	if err != nil {
		return nil, err
	}
	was := map[string]int{}
	for _, x := range old {
		was[x.Name] = x.Version
	}
	changed = []lifecycle.Version{}
	for _, x := range scripts {
		if x.Version != was[x.Name] {
			changed = append(changed, lifecycle.Version{Script: x.Name, Version: x.Version})
		}
	}
	return changed, nil
}

// sqlReleaseTold takes a release unless another node has it in its hands, or has had.
const sqlReleaseTold = `
UPDATE releases SET told = true WHERE (app, number) IN (
    SELECT app, number FROM releases WHERE app = $1 AND number = $2 AND NOT told FOR UPDATE SKIP LOCKED)`

// Tell writes entries and notes that the release was told of, in one transaction.
func (s *ReleaseStore) Tell(ctx context.Context, owner int64, r *lifecycle.Release, entries []*outbox.Entry) (told bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sqlReleaseTold, r.App, r.Number)
		if err != nil {
			return fmt.Errorf("note that a release was told of: %w", err)
		}
		if told = tag.RowsAffected() == 1; !told || len(entries) == 0 {
			return nil
		}
		return insertTogether(ctx, tx, owner, entries)
	})
	return told && err == nil, err
}

var _ lifecycle.Store = (*ReleaseStore)(nil)
