package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	sqlPurgeNext = `
SELECT id FROM apps WHERE deleted_at < $1 AND purged_at IS NULL ORDER BY deleted_at LIMIT 1 FOR UPDATE SKIP LOCKED`

	sqlPurgeDone = `UPDATE apps SET purged_at = now() WHERE id = $1`

	sqlPurgeKV = `DELETE FROM kv_entries WHERE ctid = ANY (ARRAY (SELECT ctid FROM kv_entries WHERE app = $1 LIMIT $2))`

	sqlPurgeDocs = `DELETE FROM docs WHERE ctid = ANY (ARRAY (SELECT ctid FROM docs WHERE app = $1 LIMIT $2))`

	sqlPurgeDocEntries = `
DELETE FROM doc_index_entries WHERE ctid = ANY (ARRAY (SELECT ctid FROM doc_index_entries WHERE app = $1 LIMIT $2))`

	sqlPurgeDocIndexes = `
DELETE FROM doc_indexes WHERE ctid = ANY (ARRAY (SELECT ctid FROM doc_indexes WHERE app = $1 LIMIT $2))`

	sqlPurgeFiles = `DELETE FROM files WHERE ctid = ANY (ARRAY (SELECT ctid FROM files WHERE app = $1 LIMIT $2))`

	sqlPurgeFileUsage = `DELETE FROM file_usage WHERE app = $1 AND $2 > 0`
)

// purged are the statements that remove data of an app, some rows at a time.
var purged = []string{sqlPurgeKV, sqlPurgeDocs, sqlPurgeDocEntries, sqlPurgeDocIndexes, sqlPurgeFiles, sqlPurgeFileUsage}

// Purge removes data of one app that was deleted before a time, at most limit rows of each kind in one transaction, and reports
// whether there may be more of it, or another such app. Runs that the app had may write for as long as they last, so before has to
// be earlier than they began. What files hold is removed by who looks after their folder, once no row names it.
func (s *AppStore) Purge(ctx context.Context, before time.Time, limit int) (more bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var app uuid.UUID
		switch err := tx.QueryRow(ctx, sqlPurgeNext, before).Scan(&app); {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err != nil:
			return fmt.Errorf("look for deleted apps: %w", err)
		}
		more = true
		for _, sql := range purged {
			tag, err := tx.Exec(ctx, sql, app, limit)
			if err != nil {
				return fmt.Errorf("remove data of a deleted app: %w", err)
			}
			if tag.RowsAffected() >= int64(limit) {
				return nil // this app again
			}
		}
		if _, err := tx.Exec(ctx, sqlPurgeDone, app); err != nil {
			return fmt.Errorf("note that the data of an app is removed: %w", err)
		}
		return nil
	})
	return more, err
}
