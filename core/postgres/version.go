package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
)

// VersionStore keeps the versions of scripts and says which one is active.
type VersionStore struct{ pool *pgxpool.Pool }

// NewVersionStore makes a store over pool.
func NewVersionStore(pool *pgxpool.Pool) *VersionStore { return &VersionStore{pool} }

// file is the stored form of engine.File: source is text. What cannot be text in JSON is Base64.
type file struct {
	Name    string `json:"name"`
	Content string `json:"content"`
	Base64  []byte `json:"base64,omitempty"`
}

func encodeFiles(files []engine.File) ([]byte, error) {
	stored := make([]file, len(files))
	for i, f := range files {
		stored[i].Name = f.Name
		if utf8.Valid(f.Data) && bytes.IndexByte(f.Data, 0) < 0 { // jsonb has no form for U+0000
			stored[i].Content = string(f.Data)
		} else {
			stored[i].Base64 = f.Data
		}
	}
	return json.Marshal(stored)
}

func decodeFiles(b []byte) ([]engine.File, error) {
	var stored []file
	if err := json.Unmarshal(b, &stored); err != nil {
		return nil, fmt.Errorf("decode files: %w", err)
	}
	files := make([]engine.File, len(stored))
	for i, f := range stored {
		files[i] = engine.File{Name: f.Name, Data: []byte(f.Content)}
		if f.Base64 != nil {
			files[i].Data = f.Base64
		}
	}
	return files, nil
}

const sqlVersionCreate = `
INSERT INTO script_versions (script, number, app, files, hash, sdk_version, note, created_by)
SELECT s.id, coalesce((SELECT max(number) FROM script_versions WHERE script = s.id), 0) + 1, s.app, $3, $4, $5, $6,
    nullif($7::uuid, '00000000-0000-0000-0000-000000000000')
FROM scripts s WHERE s.app = $1 AND s.id = $2
RETURNING number, created_at`

// insertVersion gives v its number. The app is locked, so numbers have no gaps.
func insertVersion(ctx context.Context, tx pgx.Tx, app uuid.UUID, v *tenant.Version) error {
	files, err := encodeFiles(v.Files)
	if err != nil {
		return fmt.Errorf("encode files: %w", err)
	}
	row := tx.QueryRow(ctx, sqlVersionCreate, app, v.Script, files, v.Hash, v.SDKVersion, v.Note, v.CreatedBy)
	if err := row.Scan(&v.Number, &v.CreatedAt); err != nil {
		return missing("insert version", err)
	}
	return insertImports(ctx, tx, app, v)
}

const sqlVersionActivate = `
UPDATE scripts s SET active_version = $3, updated_at = now()
WHERE s.app = $1 AND s.id = $2 AND EXISTS (SELECT 1 FROM script_versions v WHERE v.script = s.id AND v.number = $3)`

func activateVersion(ctx context.Context, tx pgx.Tx, app, script uuid.UUID, number int, compiled []string) error {
	tag, err := tx.Exec(ctx, sqlVersionActivate, app, script, number)
	if err != nil {
		return fmt.Errorf("activate version: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return tenant.ErrNotFound
	}
	return relink(ctx, tx, app, script, compiled)
}

// Create stores a new version of v.Script and makes it the active one if activate is set; then compiled has the hashes of the
// bundles with modules that an engine has compiled. Errors are those of relink.
func (s *VersionStore) Create(
	ctx context.Context, app uuid.UUID, v tenant.Version, activate bool, compiled []string,
) (tenant.Version, error) {
	c := &change{
		by: v.CreatedBy, app: app, action: "version.create", object: v.Script.String(),
		detail: map[string]any{"hash": v.Hash, "activate": activate}, released: activate,
	}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		if err := insertVersion(ctx, tx, app, &v); err != nil {
			return err
		}
		if !activate {
			return nil
		}
		return activateVersion(ctx, tx, app, v.Script, v.Number, compiled)
	})
	return v, err
}

// Activate makes a version the one that runs. compiled is that of Create.
func (s *VersionStore) Activate(ctx context.Context, by, app, script uuid.UUID, number int, compiled []string) error {
	c := &change{
		by: by, app: app, action: "version.activate", object: script.String(),
		detail: map[string]int{"number": number}, released: true,
	}
	_, err := apply(ctx, s.pool, c, func(tx pgx.Tx) error {
		return activateVersion(ctx, tx, app, script, number, compiled)
	})
	return err
}

const versionColumns = `v.script, v.number, v.hash, v.sdk_version, v.note, v.created_by, v.created_at,
    ARRAY(SELECT i.module FROM script_imports i WHERE i.script = v.script AND i.version = v.number ORDER BY i.module)`

const sqlVersionGet = `
SELECT ` + versionColumns + `, v.files FROM script_versions v
JOIN apps a ON a.id = v.app AND a.deleted_at IS NULL
WHERE v.app = $1 AND v.script = $2 AND v.number = $3`

// Get returns a version with its files, or tenant.ErrNotFound.
func (s *VersionStore) Get(ctx context.Context, app, script uuid.UUID, number int) (tenant.Version, error) {
	var v tenant.Version
	var by *uuid.UUID
	var files []byte
	err := s.pool.QueryRow(ctx, sqlVersionGet, app, script, number).
		Scan(&v.Script, &v.Number, &v.Hash, &v.SDKVersion, &v.Note, &by, &v.CreatedAt, &v.Imports, &files)
	if err != nil {
		return v, missing("read version", err)
	}
	v.CreatedBy = orNil(by)
	v.Files, err = decodeFiles(files)
	return v, err
}

const sqlVersionList = `
SELECT ` + versionColumns + ` FROM script_versions v
JOIN apps a ON a.id = v.app AND a.deleted_at IS NULL
WHERE v.app = $1 AND v.script = $2 AND v.number < $3 ORDER BY v.number DESC LIMIT $4`

// List returns up to limit versions, newest first, from cursor on, without their files, and the cursor of the next page.
func (s *VersionStore) List(ctx context.Context, app, script uuid.UUID, cursor string, limit int) ([]tenant.Version, string, error) {
	before := math.MaxInt32
	if err := decodeCursor(cursor, &before); err != nil {
		return nil, "", err
	}
	rows, _ := s.pool.Query(ctx, sqlVersionList, app, script, before, limit+1)
	versions, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v tenant.Version, err error) {
		var by *uuid.UUID
		err = row.Scan(&v.Script, &v.Number, &v.Hash, &v.SDKVersion, &v.Note, &by, &v.CreatedAt, &v.Imports)
		v.CreatedBy = orNil(by)
		return v, err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list versions: %w", err)
	}
	versions, next := page(versions, limit, func(v *tenant.Version) []any { return []any{v.Number} })
	return versions, next, nil
}

func orNil(id *uuid.UUID) uuid.UUID {
	if id == nil {
		return uuid.Nil
	}
	return *id
}
