package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/semaphore"

	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/planted"
	"github.com/picloud/picloud/core/tenant"
)

// UnitStore commits what transactional runs want to have done.
type UnitStore struct {
	pool  *pgxpool.Pool
	locks *semaphore.Weighted // of large units
}

// NewUnitStore makes a store over pool.
func NewUnitStore(pool *pgxpool.Pool) *UnitStore {
	return &UnitStore{pool, semaphore.NewWeighted(maxLocks)}
}

// A unit locks each row that it has read or writes, and Postgres has room for some thousand locks, of all apps and nodes: where that is
// used up, every transaction fails that needs another. So large units wait for one another. Small ones do not.
const (
	maxLocks  = 2 * data.MaxStaged // of all large units that are being committed
	smallUnit = 64                 // locks
)

const (
	// sqlUnitOwn locks the entry of a run, as long as it is the claim's. Whoever tries a commit again waits here for the end of the try
	// before.
	sqlUnitOwn = `
SELECT keep_answer FROM outbox o WHERE id = $2 AND claims = $3 AND owner = $1 AND state = 2
    AND EXISTS (SELECT 1 FROM nodes WHERE epoch = $1) FOR UPDATE`

	sqlUnitDone = `SELECT EXISTS (SELECT 1 FROM executions WHERE id = $1 AND attempt = $2 AND node = $3 AND outcome = 1
    AND finished_at > clock_timestamp() - interval '1 hour')`

	// sqlUnitTurn is sqlKVTurn for a value. Units take turns by it over all that they have read or write; those that have read only, together.
	sqlUnitTurn       = `SELECT pg_advisory_xact_lock(hashtextextended($1, 7))`
	sqlUnitTurnShared = `SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 7))`

	// sqlUnitValues and sqlUnitDocs lock what a unit writes, and return what it is now, as text where it is wanted.
	sqlUnitValues = `
SELECT k.collection, k.key, k.version, CASE WHEN x.wanted THEN k.value ELSE '' END FROM kv_entries k
JOIN unnest($2::text[], $3::text[], $4::boolean[]) AS x (collection, key, wanted) ON k.collection = x.collection AND k.key = x.key
WHERE k.app = $1 AND (k.expires_at IS NULL OR k.expires_at > now()) ORDER BY k.collection, k.key FOR UPDATE OF k`
	sqlUnitDocs = `
SELECT d.collection, d.id::text, d.version, CASE WHEN x.wanted THEN d.data::text ELSE '' END FROM docs d
JOIN unnest($2::text[], $3::uuid[], $4::boolean[]) AS x (collection, id, wanted) ON d.collection = x.collection AND d.id = x.id
WHERE d.app = $1 ORDER BY d.collection, d.id FOR UPDATE OF d`

	// sqlUnitOvertaken asks whether one of some values, or of some documents, has another version than that; 0: there is none.
	sqlUnitOvertaken = `
SELECT EXISTS (
    SELECT 1 FROM unnest($2::text[], $3::text[], $4::bigint[]) AS x (collection, key, version)
    LEFT JOIN kv_entries k ON k.app = $1 AND k.collection = x.collection AND k.key = x.key
        AND (k.expires_at IS NULL OR k.expires_at > now())
    WHERE coalesce(k.version, 0) <> x.version
) OR EXISTS (
    SELECT 1 FROM unnest($5::text[], $6::uuid[], $7::bigint[]) AS x (collection, id, version)
    LEFT JOIN docs d ON d.app = $1 AND d.collection = x.collection AND d.id = x.id
    WHERE coalesce(d.version, 0) <> x.version)`

	sqlUnitSet = `
INSERT INTO kv_entries AS k (app, collection, key, value, expires_at)
SELECT $2, $3, $4, $5, coalesce($7, now() + nullif($6::bigint, 0) * interval '1 millisecond')
WHERE EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)
ON CONFLICT (app, collection, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at,
    version = excluded.version, updated_at = now()
WHERE NOT $8 OR k.expires_at <= now()
RETURNING version`
)

// Commit does what a unit says under the owner's epoch, and settles the attempt of x with it, unless its entry is not written: all in one
// transaction or nothing. caused returns what makes the entries that triggers of a collection want, nil: none does. It returns all entries
// that were written. Errors are data.ErrUnitConflict, outbox.ErrFenced where the entry is not that of the claim any more, those of outbox
// for an entry that is refused, and those of caused. After any other it is not known what was done: for an entry that is written Commit may
// be called again, and says so then.
func (s *UnitStore) Commit(
	ctx context.Context, owner int64, u *data.Unit, caused func(kind outbox.Kind, collection string) data.Caused, x *outbox.Settlement,
) (written []*outbox.Entry, err error) {
	rows := len(u.Reads)
	for i := range u.Writes {
		if _, read := u.Reads[u.Writes[i].Row]; !read {
			rows++
		}
	}
	if n := int64(min(rows, maxLocks)); n > smallUnit {
		if err := s.locks.Acquire(ctx, n); err != nil {
			return nil, fmt.Errorf("wait for other large units: %w", err)
		}
		defer s.locks.Release(n)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		ended := *x // of which a try may leave the answer out
		c := &unitCommit{tx: tx, owner: owner, app: x.Entry.App, unit: u, caused: caused, made: map[data.Row]data.Caused{}, before: map[data.Row]versioned{}}
		if err := c.run(ctx, &ended); err != nil {
			return err
		}
		written = c.entries
		failpoint.Hit(failpoint.UnitSettled)
		return nil
	})
	if errors.Is(err, errUnitDone) {
		return nil, nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "40P01" || pg.Code == "40001") {
		return nil, data.ErrUnitConflict
	}
	if err != nil {
		return nil, err
	}
	failpoint.Hit(failpoint.UnitCommitted)
	return written, nil
}

// errUnitDone ends a transaction that has nothing to do, since the one before it was committed.
var errUnitDone = errors.New("it is done")

// versioned is a row as it is stored.
type versioned struct {
	version int64
	value   []byte
}

// unitCommit is one transaction of a UnitStore.
type unitCommit struct {
	tx      pgx.Tx
	owner   int64
	app     uuid.UUID
	unit    *data.Unit
	caused  func(kind outbox.Kind, collection string) data.Caused
	made    map[data.Row]data.Caused // by collection, so that it is one answer throughout
	before  map[data.Row]versioned
	entries []*outbox.Entry

	replaced int // bytes of what is in before
}

// makes is what makes the entries that triggers of a collection want; nil: none does.
func (c *unitCommit) makes(kind outbox.Kind, collection string) data.Caused {
	of := data.Row{Kind: kind, Collection: collection}
	caused, known := c.made[of]
	if !known {
		caused = c.caused(kind, collection)
		c.made[of] = caused
	}
	return caused
}

func (c *unitCommit) run(ctx context.Context, x *outbox.Settlement) error {
	var gates []gateKey
	if x.Entry.Gate != "" {
		gates = []gateKey{{x.Entry.App, x.Entry.Gate}}
	}
	if err := lockGates(ctx, c.tx, gates); err != nil {
		return err
	}
	if !x.Entry.Unwritten {
		if err := c.own(ctx, x); err != nil {
			return err
		}
	}
	if err := c.check(ctx); err != nil {
		return err
	}
	failpoint.Hit(failpoint.UnitChecked)
	if err := c.writeAll(ctx); err != nil {
		return err
	}
	if err := c.send(ctx); err != nil {
		return err
	}
	failpoint.Hit(failpoint.UnitApplied)
	if x.Entry.Unwritten {
		return nil
	}
	settling, err := newSettling(c.owner, []*outbox.Settlement{x})
	if err != nil {
		return err
	}
	switch applied, err := settleBatch(ctx, c.tx, &settling.statements, settling.rows); {
	case err != nil:
		return err
	case applied != 1:
		return outbox.ErrFenced
	}
	_, err = fillGates(ctx, c.tx, gates)
	return err
}

// own locks the entry, or says what became of it. The answer is kept if somebody has stopped waiting for it meanwhile.
func (c *unitCommit) own(ctx context.Context, x *outbox.Settlement) error {
	e := x.Entry
	var keep, done bool
	err := c.tx.QueryRow(ctx, sqlUnitOwn, c.owner, e.ID, e.Claims).Scan(&keep)
	switch {
	case err == nil && !keep:
		x.Answer = nil
		return nil
	case err == nil || !errors.Is(err, pgx.ErrNoRows):
		return err
	}
	if err := c.tx.QueryRow(ctx, sqlUnitDone, e.ID, e.Attempt, c.owner).Scan(&done); err != nil {
		return fmt.Errorf("look for the end of a run: %w", err)
	}
	if done {
		return errUnitDone
	}
	return outbox.ErrFenced
}

// check locks all that the unit has read or writes, and checks that what was read is as it was.
func (c *unitCommit) check(ctx context.Context) error {
	writes := map[data.Row]bool{}
	for row := range c.unit.Reads {
		writes[row] = false
	}
	for i := range c.unit.Writes {
		writes[c.unit.Writes[i].Row] = true
	}
	type turn struct {
		row  data.Row
		text string
	}
	turns := make([]turn, 0, len(writes))
	collections := map[string]bool{} // of documents that are written
	for row, writes := range writes {
		t := turn{row, c.app.String() + "/" + row.Collection + "/" + row.Key}
		if row.Kind == outbox.KindDocs {
			t.text = "docs/" + t.text
			if writes {
				collections[row.Collection] = true
			}
		}
		turns = append(turns, t)
	}
	slices.SortFunc(turns, func(a, b turn) int { return strings.Compare(a.text, b.text) })
	b := &pgx.Batch{}
	for _, t := range turns {
		if writes[t.row] {
			b.Queue(sqlUnitTurn, t.text)
		} else {
			b.Queue(sqlUnitTurnShared, t.text)
		}
	}
	for _, collection := range slices.Sorted(maps.Keys(collections)) {
		b.Queue(sqlDocTurn, c.app, collection)
	}
	if err := c.tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("lock what is read and written: %w", err)
	}
	for _, kind := range []outbox.Kind{outbox.KindKV, outbox.KindDocs} {
		var rows []data.Row
		for _, t := range turns {
			if t.row.Kind == kind && writes[t.row] {
				rows = append(rows, t.row)
			}
		}
		if err := c.lock(ctx, kind, rows); err != nil {
			return err
		}
	}
	switch changed, err := overtaken(ctx, c.tx, c.app, c.unit.Reads); {
	case err != nil:
		return err
	case changed && !planted.Is(planted.Unchecked):
		return data.ErrUnitConflict
	}
	return nil
}

// lock keeps rows that are written from changing, and reads what they are, with what they hold where triggers are shown that.
func (c *unitCommit) lock(ctx context.Context, kind outbox.Kind, locked []data.Row) error {
	if len(locked) == 0 {
		return nil
	}
	sql := map[outbox.Kind]string{outbox.KindKV: sqlUnitValues, outbox.KindDocs: sqlUnitDocs}[kind]
	collections, keys, wanted := make([]string, len(locked)), make([]string, len(locked)), make([]bool, len(locked))
	for i, row := range locked {
		collections[i], keys[i], wanted[i] = row.Collection, row.Key, c.makes(kind, row.Collection) != nil
	}
	rows, _ := c.tx.Query(ctx, sql, c.app, collections, keys, wanted)
	row, value, version := data.Row{Kind: kind}, "", int64(0)
	_, err := pgx.ForEachRow(rows, []any{&row.Collection, &row.Key, &version, &value}, func() error {
		c.before[row] = versioned{version, []byte(value)}
		if c.replaced += len(value); c.replaced > data.MaxReplacedBytes {
			return &outbox.Rejected{Err: fmt.Errorf(
				"what triggers are shown of the values before has more than %d bytes: divide the work", data.MaxReplacedBytes)}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what is written: %w", err)
	}
	return nil
}

// Overtaken reports whether some rows of an app have other versions now than those; 0: there was none.
func (s *UnitStore) Overtaken(ctx context.Context, app uuid.UUID, reads map[data.Row]int64) (bool, error) {
	return overtaken(ctx, s.pool, app, reads)
}

func overtaken(ctx context.Context, db querier, app uuid.UUID, reads map[data.Row]int64) (is bool, err error) {
	var of [2]struct { // values, documents
		collections, keys []string
		versions          []int64
	}
	for row, version := range reads {
		x := &of[0]
		if row.Kind == outbox.KindDocs {
			x = &of[1]
		}
		x.collections, x.keys, x.versions = append(x.collections, row.Collection), append(x.keys, row.Key), append(x.versions, version)
	}
	err = db.QueryRow(ctx, sqlUnitOvertaken, app, of[0].collections, of[0].keys, of[0].versions,
		of[1].collections, of[1].keys, of[1].versions).Scan(&is)
	if err != nil {
		return false, fmt.Errorf("look whether what was read has changed: %w", err)
	}
	return is, nil
}

// writeAll changes rows, and writes the entries that this leads to: all together, since a thousand by themselves took longer than a commit may.
func (c *unitCommit) writeAll(ctx context.Context) error {
	b := &pgx.Batch{}
	var due []*outbox.Entry
	for i := range c.unit.Writes {
		entries, err := c.write(b, &c.unit.Writes[i])
		if err != nil {
			return err
		}
		due = append(due, entries...)
	}
	if err := c.tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("write: %w", rejected(err))
	}
	var err error
	c.entries, err = insertCaused(ctx, c.tx, c.owner, due)
	return err
}

// write adds the change of one row to a batch, and makes the entries that it leads to.
func (c *unitCommit) write(b *pgx.Batch, w *data.Staged) ([]*outbox.Entry, error) {
	before := c.before[w.Row]
	change := data.Change{
		Place: data.Place{App: c.app, Collection: w.Collection, Key: w.Key}, Op: tenant.OpUpdate, Value: w.Value, Previous: before.value,
	}
	switch {
	case w.Value == nil && before.version == 0:
		return nil, nil // it is gone already
	case w.Value == nil:
		change.Op = tenant.OpDelete
	case before.version == 0:
		change.Op = tenant.OpCreate
	}
	if w.Kind == outbox.KindKV {
		c.value(b, w, before.version == 0)
	} else if err := c.document(b, w, change.Op); err != nil {
		return nil, err
	}
	caused := c.makes(w.Kind, w.Collection)
	if caused == nil {
		return nil, nil
	}
	return caused(change)
}

// value writes a value. fresh: there was none, and if there is one now, somebody else has been faster.
func (c *unitCommit) value(b *pgx.Batch, w *data.Staged, fresh bool) {
	if w.Value == nil {
		b.Queue(sqlKVDelete, c.owner, c.app, w.Collection, w.Key, nil).Exec(changedOne)
		return
	}
	_, read := c.unit.Reads[w.Row]
	b.Queue(sqlUnitSet, c.owner, c.app, w.Collection, w.Key, string(w.Value), w.TTL.Milliseconds(), untilTime(w), fresh && read).Exec(changedOne)
}

// untilTime is when a value expires that keeps the time that it had.
func untilTime(w *data.Staged) *time.Time {
	if w.TTL > 0 {
		return nil
	}
	return optionalTime(w.ExpiresAt)
}

func (c *unitCommit) document(b *pgx.Batch, w *data.Staged, op string) error {
	id, err := uuid.Parse(w.Key)
	if err != nil {
		return fmt.Errorf("id of a document: %w", err)
	}
	switch op {
	case tenant.OpDelete:
		b.Queue(sqlDocDelete, c.owner, c.app, w.Collection, id).QueryRow(func(row pgx.Row) error {
			var n int
			if err := row.Scan(&n); err != nil || n == 1 {
				return err
			}
			return data.ErrUnitConflict
		})
	case tenant.OpCreate:
		b.Queue(sqlDocCreate, c.owner, c.app, w.Collection, id, w.Value).Exec(changedOne)
	default:
		b.Queue(sqlDocUpdate, c.owner, c.app, w.Collection, id, w.Value).Exec(changedOne)
	}
	return nil
}

// changedOne says what it means that a statement has not changed or returned one row.
func changedOne(tag pgconn.CommandTag) error {
	if tag.RowsAffected() != 1 {
		return data.ErrUnitConflict
	}
	return nil
}

// send writes the entries that were sent, in their order. One whose idempotency key another was given since is in the way of all.
func (c *unitCommit) send(ctx context.Context) error {
	var all []*outbox.Entry
	for _, group := range c.unit.Sends {
		for _, e := range group {
			again := *e // who writes it fills it in
			all = append(all, &again)
		}
	}
	if len(all) == 0 {
		return nil
	}
	err := insertTogether(ctx, c.tx, c.owner, all)
	if before := (*outbox.Duplicate)(nil); errors.As(err, &before) {
		return data.ErrUnitConflict
	}
	if err != nil {
		return err
	}
	c.entries = append(c.entries, all...)
	return nil
}
