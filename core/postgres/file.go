package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// FileStore keeps what files are called and which contents they have. Writes carry the epoch of the node that runs the script, as
// those of a KVStore do.
type FileStore struct{ pool *pgxpool.Pool }

// NewFileStore makes a store over pool.
func NewFileStore(pool *pgxpool.Pool) *FileStore { return &FileStore{pool} }

const (
	fileColumns = `collection, id, name, content_type, size, sha256, blocks, blob, created_at, updated_at`

	sqlFileGet = `SELECT ` + fileColumns + ` FROM files WHERE app = $1 AND collection = $2 AND id = $3`

	sqlFileLock = sqlFileGet + ` FOR UPDATE`

	sqlFileList = `SELECT ` + fileColumns + ` FROM files WHERE app = $1 AND collection = $2 AND id > $3 ORDER BY id LIMIT $4`
)

func scanFile(app uuid.UUID) pgx.RowToFunc[data.File] {
	return func(row pgx.CollectableRow) (f data.File, err error) {
		f.App = app
		err = row.Scan(&f.Collection, &f.ID, &f.Name, &f.ContentType, &f.Size, &f.SHA256, &f.Blocks, &f.Blob, &f.CreatedAt, &f.UpdatedAt)
		return f, err
	}
}

// Get returns a file. data.ErrNone: there is none.
func (s *FileStore) Get(ctx context.Context, app uuid.UUID, collection string, id uuid.UUID) (data.File, error) {
	return getFile(ctx, s.pool, sqlFileGet, app, collection, id)
}

func getFile(ctx context.Context, db querier, sql string, app uuid.UUID, collection string, id uuid.UUID) (data.File, error) {
	rows, _ := db.Query(ctx, sql, app, collection, id)
	f, err := pgx.CollectExactlyOneRow(rows, scanFile(app))
	if errors.Is(err, pgx.ErrNoRows) {
		return f, data.ErrNone
	}
	if err != nil {
		return f, fmt.Errorf("read file: %w", err)
	}
	return f, nil
}

// List returns up to limit files of a collection, the oldest first, from cursor on, and the cursor of the next page.
func (s *FileStore) List(ctx context.Context, app uuid.UUID, collection, cursor string, limit int) ([]data.File, string, error) {
	after := uuid.Nil.String()
	if err := decodeCursor(cursor, &after); err != nil {
		return nil, "", err
	}
	id, err := uuid.Parse(after)
	if err != nil {
		return nil, "", tenant.ErrCursor
	}
	rows, _ := s.pool.Query(ctx, sqlFileList, app, collection, id, limit+1)
	list, err := pgx.CollectRows(rows, scanFile(app))
	if err != nil {
		return nil, "", fmt.Errorf("list files: %w", err)
	}
	list, next := page(list, limit, func(f *data.File) []any { return []any{f.ID.String()} })
	return list, next, nil
}

const (
	sqlFileInsert = `
INSERT INTO files (app, collection, id, name, content_type, size, sha256, blocks, blob)
SELECT $2, $3, $4, $5, $6, $7, $8, $9, $10 WHERE EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)
RETURNING created_at, updated_at`

	sqlFileUpdate = `
UPDATE files SET name = $5, content_type = $6, size = $7, sha256 = $8, blocks = $9, blob = $10, updated_at = now()
WHERE app = $2 AND collection = $3 AND id = $4 AND EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)
RETURNING created_at, updated_at`

	sqlFileUsage = `
INSERT INTO file_usage AS u (app, bytes) VALUES ($1, $2) ON CONFLICT (app) DO UPDATE SET bytes = u.bytes + excluded.bytes RETURNING bytes`
)

// Put writes a file whose content is in its place: a new one, or with replace the content of one that is there (data.ErrNone: it is
// not). The files of the app may take quota bytes together (data.ErrQuota). It sets the times of f, and returns the blob that the file
// had, which nothing names any more.
func (s *FileStore) Put(
	ctx context.Context, owner int64, f *data.File, replace bool, quota int64, caused data.Caused,
) (before uuid.UUID, entries []*outbox.Entry, err error) {
	err = s.change(ctx, owner, caused, &entries, func(tx pgx.Tx, c *data.Change) error {
		c.Place = data.Place{App: f.App, Collection: f.Collection, Key: f.ID.String()}
		sql, grown := sqlFileInsert, f.Size
		c.Op = tenant.OpCreate
		if replace {
			old, err := getFile(ctx, tx, sqlFileLock, f.App, f.Collection, f.ID)
			if err != nil {
				return err
			}
			sql, grown, before = sqlFileUpdate, f.Size-old.Size, old.Blob
			c.Op, c.Previous = tenant.OpUpdate, describe(&old)
		}
		err := tx.QueryRow(ctx, sql, owner, f.App, f.Collection, f.ID, f.Name, f.ContentType, f.Size, f.SHA256, f.Blocks, f.Blob).
			Scan(&f.CreatedAt, &f.UpdatedAt)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return outbox.ErrFenced
		case err != nil:
			return fmt.Errorf("write file: %w", rejected(err))
		}
		c.Value = describe(f)
		var used int64
		if err := tx.QueryRow(ctx, sqlFileUsage, f.App, grown).Scan(&used); err != nil {
			return fmt.Errorf("count bytes of files: %w", err)
		}
		if grown > 0 && used > quota {
			return data.ErrQuota
		}
		return nil
	})
	return before, entries, err
}

const sqlFileDelete = `
DELETE FROM files WHERE app = $2 AND collection = $3 AND id = $4 AND EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)`

// Delete deletes a file and returns the blob that it had. data.ErrNone: there is none.
func (s *FileStore) Delete(
	ctx context.Context, owner int64, app uuid.UUID, collection string, id uuid.UUID, caused data.Caused,
) (before uuid.UUID, entries []*outbox.Entry, err error) {
	err = s.change(ctx, owner, caused, &entries, func(tx pgx.Tx, c *data.Change) error {
		old, err := getFile(ctx, tx, sqlFileLock, app, collection, id)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, sqlFileDelete, owner, app, collection, id)
		switch {
		case err != nil:
			return fmt.Errorf("delete file: %w", err)
		case tag.RowsAffected() == 0:
			return outbox.ErrFenced
		}
		before = old.Blob
		*c = data.Change{Place: data.Place{App: app, Collection: collection, Key: id.String()}, Op: tenant.OpDelete, Previous: describe(&old)}
		_, err = tx.Exec(ctx, sqlFileUsage, app, -old.Size)
		return err
	})
	return before, entries, err
}

// change changes a file in a transaction with the entries that this leads to.
func (s *FileStore) change(
	ctx context.Context, owner int64, caused data.Caused, entries *[]*outbox.Entry, do func(pgx.Tx, *data.Change) error,
) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var c data.Change
		if err := do(tx, &c); err != nil || caused == nil {
			return err
		}
		failpoint.Hit(failpoint.DataChanged)
		made, err := caused(c)
		if err != nil {
			return err
		}
		*entries, err = insertCaused(ctx, tx, owner, made)
		failpoint.Hit(failpoint.DataCaused)
		return err
	})
	failpoint.Hit(failpoint.DataCommitted)
	return err
}

// describe is what triggers see of a file, as JSON.
func describe(f *data.File) []byte {
	b, err := json.Marshal(struct {
		ID          uuid.UUID `json:"id"`
		Name        string    `json:"name"`
		ContentType string    `json:"content_type"`
		Size        int64     `json:"size"`
		SHA256      string    `json:"sha256"`
		CreatedAt   time.Time `json:"created_at"`
		UpdatedAt   time.Time `json:"updated_at"`
	}{f.ID, f.Name, f.ContentType, f.Size, fmt.Sprintf("%x", f.SHA256), f.CreatedAt.UTC(), f.UpdatedAt.UTC()})
	if err != nil {
		panic(err) // texts and times of the database always encode
	}
	return b
}

const sqlFileNamed = `SELECT blob FROM files WHERE app = $1 AND blob = ANY ($2::uuid[])`

// Named returns which blobs of an app a file has.
func (s *FileStore) Named(ctx context.Context, app uuid.UUID, blobs []uuid.UUID) (map[uuid.UUID]bool, error) {
	rows, _ := s.pool.Query(ctx, sqlFileNamed, app, blobs)
	list, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("look for blobs: %w", err)
	}
	named := make(map[uuid.UUID]bool, len(list))
	for _, id := range list {
		named[id] = true
	}
	return named, nil
}
