package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// DocStore keeps documents and their indexes. Every write carries the epoch of the node that runs the script: one whose entries were
// taken over changes nothing any more (outbox.ErrFenced).
type DocStore struct{ pool *pgxpool.Pool }

// NewDocStore makes a store over pool.
func NewDocStore(pool *pgxpool.Pool) *DocStore { return &DocStore{pool} }

const docColumns = `id, data::text, version, created_at, updated_at`

func scanDoc(row pgx.CollectableRow) (d data.Doc, err error) {
	err = row.Scan(&d.ID, &d.Data, &d.Version, &d.CreatedAt, &d.UpdatedAt)
	return d, err
}

const sqlDocGet = `SELECT ` + docColumns + ` FROM docs WHERE app = $1 AND collection = $2 AND id = $3`

// Get returns a document, or tenant.ErrNotFound.
func (s *DocStore) Get(ctx context.Context, p data.DocPlace) (data.Doc, error) {
	rows, _ := s.pool.Query(ctx, sqlDocGet, p.App, p.Collection, p.ID)
	d, err := pgx.CollectExactlyOneRow(rows, scanDoc)
	return d, missing("read document", err)
}

const (
	// sqlDocTurn keeps an index from being made while a document is written: whoever writes after it sees the new index. The
	// statement that writes must follow it, since a statement sees what was committed before it began.
	sqlDocTurn = `SELECT pg_advisory_xact_lock_shared(hashtextextended($1::text || '/' || $2, 8))`

	sqlDocLock = `SELECT data::text, version FROM docs WHERE app = $1 AND collection = $2 AND id = $3 FOR UPDATE`

	sqlDocCreate = `
WITH d AS (
    INSERT INTO docs (app, collection, id, data)
    SELECT $2, $3, $4, $5::jsonb WHERE EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)
    ON CONFLICT DO NOTHING RETURNING version, created_at, updated_at
), written AS (
    INSERT INTO doc_index_entries (app, index, doc, rank, num, text)
    SELECT i.app, i.id, $4, doc_rank(v), doc_num(v), doc_text(v)
    FROM d, doc_indexes i, LATERAL (SELECT $5::jsonb #> string_to_array(i.path, '.') AS v OFFSET 0) x
    WHERE i.app = $2 AND i.collection = $3)
SELECT version, created_at, updated_at FROM d`

	sqlDocUpdate = `
WITH d AS (
    UPDATE docs SET data = $5::jsonb, version = nextval('data_versions'), updated_at = now()
    WHERE app = $2 AND collection = $3 AND id = $4 AND EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)
    RETURNING version, created_at, updated_at
), written AS (
    INSERT INTO doc_index_entries AS e (app, index, doc, rank, num, text)
    SELECT i.app, i.id, $4, doc_rank(v), doc_num(v), doc_text(v)
    FROM d, doc_indexes i, LATERAL (SELECT $5::jsonb #> string_to_array(i.path, '.') AS v OFFSET 0) x
    WHERE i.app = $2 AND i.collection = $3
    ON CONFLICT (app, index, doc) DO UPDATE SET rank = excluded.rank, num = excluded.num, text = excluded.text
    WHERE (e.rank, e.num, e.text) IS DISTINCT FROM (excluded.rank, excluded.num, excluded.text))
SELECT version, created_at, updated_at FROM d`

	sqlDocDelete = `
WITH d AS (
    DELETE FROM docs
    WHERE app = $2 AND collection = $3 AND id = $4 AND EXISTS (SELECT 1 FROM nodes WHERE epoch = $1) RETURNING 1
), written AS (
    DELETE FROM doc_index_entries e USING d, doc_indexes i
    WHERE i.app = $2 AND i.collection = $3 AND e.app = $2 AND e.index = i.id AND e.doc = $4)
SELECT count(*) FROM d`
)

// Create stores a new document under the owner's epoch. data.ErrDocExists: there is one of that id. A caused that is not nil makes
// entries, which commit with the document and are returned.
func (s *DocStore) Create(
	ctx context.Context, owner int64, p data.DocPlace, document []byte, caused data.Caused,
) (d data.Doc, entries []*outbox.Entry, err error) {
	d = data.Doc{ID: p.ID, Data: document}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(sqlDocTurn, p.App, p.Collection)
		b.Queue(sqlDocCreate, owner, p.App, p.Collection, p.ID, document)
		err := second(tx.SendBatch(ctx, b), &d.Version, &d.CreatedAt, &d.UpdatedAt)
		if errors.Is(err, pgx.ErrNoRows) {
			return s.fenced(ctx, tx, owner, data.ErrDocExists)
		}
		if err != nil {
			return fmt.Errorf("create document: %w", rejected(err))
		}
		entries, err = changed(ctx, tx, owner, tenant.OpCreate, p, document, nil, caused)
		return err
	})
	return d, entries, err
}

// Update replaces what a document holds. required is the version that it has to have, nil leaves that open; another is
// data.ErrConflict. Without the document it is tenant.ErrNotFound. caused is as with Create, and learns what the document held before.
func (s *DocStore) Update(
	ctx context.Context, owner int64, p data.DocPlace, document []byte, required *int64, caused data.Caused,
) (d data.Doc, entries []*outbox.Entry, err error) {
	d = data.Doc{ID: p.ID, Data: document}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		previous, err := s.lock(ctx, tx, p, required)
		if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, sqlDocUpdate, owner, p.App, p.Collection, p.ID, document).Scan(&d.Version, &d.CreatedAt, &d.UpdatedAt)
		if errors.Is(err, pgx.ErrNoRows) {
			return outbox.ErrFenced
		}
		if err != nil {
			return fmt.Errorf("update document: %w", rejected(err))
		}
		entries, err = changed(ctx, tx, owner, tenant.OpUpdate, p, document, previous, caused)
		return err
	})
	return d, entries, err
}

// Delete deletes a document. required and errors are as with Update.
func (s *DocStore) Delete(
	ctx context.Context, owner int64, p data.DocPlace, required *int64, caused data.Caused,
) (entries []*outbox.Entry, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		previous, err := s.lock(ctx, tx, p, required)
		if err != nil {
			return err
		}
		var deleted int
		if err := tx.QueryRow(ctx, sqlDocDelete, owner, p.App, p.Collection, p.ID).Scan(&deleted); err != nil {
			return fmt.Errorf("delete document: %w", err)
		}
		if deleted == 0 {
			return outbox.ErrFenced
		}
		entries, err = changed(ctx, tx, owner, tenant.OpDelete, p, nil, previous, caused)
		return err
	})
	return entries, err
}

// lock keeps a document from changing until the transaction ends, and returns what it holds: two changes at one time each see what the
// other has left.
func (s *DocStore) lock(ctx context.Context, tx pgx.Tx, p data.DocPlace, required *int64) ([]byte, error) {
	b := &pgx.Batch{}
	b.Queue(sqlDocTurn, p.App, p.Collection)
	b.Queue(sqlDocLock, p.App, p.Collection, p.ID)
	var previous string
	var version int64
	if err := second(tx.SendBatch(ctx, b), &previous, &version); err != nil {
		return nil, missing("lock document", err)
	}
	if required != nil && *required != version {
		return nil, data.ErrConflict
	}
	return []byte(previous), nil
}

// second reads the one row of the second statement of a batch.
func second(results pgx.BatchResults, into ...any) error {
	_, err := results.Exec()
	if err == nil {
		err = results.QueryRow().Scan(into...)
	}
	return errors.Join(err, results.Close())
}

// fenced says why a statement has changed nothing: the node is not the owner any more, or else what otherwise says.
func (s *DocStore) fenced(ctx context.Context, tx pgx.Tx, owner int64, otherwise error) error {
	var live bool
	switch err := tx.QueryRow(ctx, sqlDocLive, owner).Scan(&live); {
	case err != nil:
		return fmt.Errorf("look for node: %w", err)
	case !live:
		return outbox.ErrFenced
	}
	return otherwise
}

const sqlDocLive = `SELECT EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)`

// changed writes what a change of a document leads to in the change's transaction.
func changed(
	ctx context.Context, tx pgx.Tx, owner int64, op string, p data.DocPlace, document, previous []byte, caused data.Caused,
) ([]*outbox.Entry, error) {
	if caused == nil {
		return nil, nil
	}
	entries, err := caused(data.Change{
		Place: data.Place{App: p.App, Collection: p.Collection, Key: p.ID.String()}, Op: op, Value: document, Previous: previous,
	})
	if err != nil {
		return nil, err
	}
	return insertCaused(ctx, tx, owner, entries)
}

const (
	sqlDocIndexTurn = `SELECT pg_advisory_xact_lock(hashtextextended($1::text || '/' || $2, 8))`

	sqlDocIndexList = `SELECT id, path, type, state = 'ready' FROM doc_indexes WHERE app = $1 AND collection = $2 ORDER BY path`

	sqlDocIndexCreate = `INSERT INTO doc_indexes (app, collection, path, type) VALUES ($1, $2, $3, $4)`

	sqlDocIndexGet = `
SELECT id, type, state = 'ready', coalesce(built_to, '00000000-0000-0000-0000-000000000000')
FROM doc_indexes WHERE app = $1 AND collection = $2 AND path = $3`

	// sqlDocIndexBuild makes the entries of the next documents by id. It locks them, so that none is given the entry of what it held
	// before a change that is under way.
	sqlDocIndexBuild = `
WITH batch AS (
    SELECT id, data #> string_to_array($3, '.') AS v FROM docs
    WHERE app = $1 AND collection = $2 AND id > $5 ORDER BY id LIMIT $6 FOR UPDATE
), written AS (
    INSERT INTO doc_index_entries AS e (app, index, doc, rank, num, text)
    SELECT $1, $4, id, doc_rank(v), doc_num(v), doc_text(v) FROM batch
    ON CONFLICT (app, index, doc) DO UPDATE SET rank = excluded.rank, num = excluded.num, text = excluded.text
    WHERE (e.rank, e.num, e.text) IS DISTINCT FROM (excluded.rank, excluded.num, excluded.text))
SELECT count(*), (SELECT id FROM batch ORDER BY id DESC LIMIT 1) FROM batch`

	sqlDocIndexBuilt = `
UPDATE doc_indexes SET built_to = greatest(built_to, $3), state = CASE WHEN $4 THEN 'ready' ELSE state END
WHERE app = $1 AND id = $2`
)

// docBatch is how many documents get their entries in one transaction.
const docBatch = 500

// Index makes an index of a collection, and returns once every document is in it. If ctx ends before, another call goes on where this one
// stopped. An index of another type on the same path, and one too many, is a *tenant.Conflict.
func (s *DocStore) Index(ctx context.Context, app uuid.UUID, collection, path, kind string) error {
	id, from, err := s.makeIndex(ctx, app, collection, path, kind)
	for err == nil && id != 0 {
		id, from, err = s.buildIndex(ctx, app, collection, path, id, from)
	}
	return err
}

// makeIndex returns the number of an index and how far it is built; 0: it is ready.
func (s *DocStore) makeIndex(ctx context.Context, app uuid.UUID, collection, path, kind string) (id int64, from uuid.UUID, err error) {
	get := func(db querier) error {
		var is string
		var ready bool
		err := db.QueryRow(ctx, sqlDocIndexGet, app, collection, path).Scan(&id, &is, &ready, &from)
		if err != nil {
			return missing("read index", err)
		}
		if is != kind {
			return &tenant.Conflict{Message: fmt.Sprintf("there is an index of type %q on %q already; it serves values of every type", is, path)}
		}
		if ready {
			id = 0
		}
		return nil
	}
	if err := get(s.pool); !errors.Is(err, tenant.ErrNotFound) {
		return id, from, err
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlDocIndexTurn, app, collection); err != nil {
			return fmt.Errorf("lock collection: %w", err)
		}
		if err := get(tx); !errors.Is(err, tenant.ErrNotFound) {
			return err
		}
		indexes, err := listIndexes(ctx, tx, app, collection)
		if err != nil {
			return err
		}
		if len(indexes) >= data.MaxDocIndexes {
			return &tenant.Conflict{Message: fmt.Sprintf("the collection has %d indexes, and more would slow every write", len(indexes))}
		}
		if _, err := tx.Exec(ctx, sqlDocIndexCreate, app, collection, path, kind); err != nil {
			return fmt.Errorf("create index: %w", err)
		}
		return get(tx)
	})
	return id, from, err
}

// buildIndex makes the entries of one batch of documents; the number that it returns is 0 after the last.
func (s *DocStore) buildIndex(
	ctx context.Context, app uuid.UUID, collection, path string, id int64, from uuid.UUID,
) (int64, uuid.UUID, error) {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var n int
		var last *uuid.UUID
		if err := tx.QueryRow(ctx, sqlDocIndexBuild, app, collection, path, id, from, docBatch).Scan(&n, &last); err != nil {
			return fmt.Errorf("build index: %w", err)
		}
		if _, err := tx.Exec(ctx, sqlDocIndexBuilt, app, id, last, n < docBatch); err != nil {
			return fmt.Errorf("build index: %w", err)
		}
		if last != nil {
			from = *last
		}
		if n < docBatch {
			id = 0
		}
		return nil
	})
	return id, from, err
}

// docIndex is an index as finds see it.
type docIndex struct {
	id    int64
	path  string
	kind  string
	ready bool
}

func listIndexes(ctx context.Context, db querier, app uuid.UUID, collection string) ([]docIndex, error) {
	rows, err := db.Query(ctx, sqlDocIndexList, app, collection)
	if err != nil {
		return nil, fmt.Errorf("list indexes: %w", err)
	}
	indexes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (i docIndex, err error) {
		err = row.Scan(&i.id, &i.path, &i.kind, &i.ready)
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("list indexes: %w", err)
	}
	return indexes, nil
}
