package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/outbox"
)

// KeyedStore writes entries that share rows with others: a gate, the budget of their first cause, an idempotency key, a
// debounced predecessor, a batch. It takes several statements in one transaction, so it has a writer of its own.
type KeyedStore struct{ pool *pgxpool.Pool }

// NewKeyedStore makes a store over pool.
func NewKeyedStore(pool *pgxpool.Pool) *KeyedStore { return &KeyedStore{pool} }

// Insert writes entries in one transaction. Every row that is shared is locked in the order of its kind and key.
func (s *KeyedStore) Insert(ctx context.Context, owner int64, entries []*outbox.Entry, again bool) ([]error, error) {
	var w *keyedWrite
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		w = newKeyedWrite(tx, entries)
		return w.run(ctx, owner, again)
	})
	if err != nil {
		return nil, rejected(err)
	}
	return w.refused, nil
}

// keyedWrite is one transaction of a KeyedStore. What is said of an entry stands at its place.
type keyedWrite struct {
	tx      pgx.Tx
	entries []*outbox.Entry
	refused []error
	seqs    []*int64 // place before the gate
	written []bool   // by an earlier try, or it ended as superseded before it was
	gates   []gateKey
}

func newKeyedWrite(tx pgx.Tx, entries []*outbox.Entry) *keyedWrite {
	n := len(entries)
	return &keyedWrite{tx: tx, entries: entries, refused: make([]error, n), seqs: make([]*int64, n), written: make([]bool, n)}
}

func (w *keyedWrite) run(ctx context.Context, owner int64, again bool) error {
	if err := w.reserve(ctx); err != nil {
		return err
	}
	if again {
		// The earlier try held the same locks until it was through or gone, unless all that it shared was a budget or an
		// idempotency key, which wait for one another below and end in the INSERT's own conflict.
		if err := w.known(ctx); err != nil {
			return err
		}
	}
	for _, step := range []func(context.Context) error{w.idempotency, w.budget, w.debounce, w.gather} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	var entries []*outbox.Entry
	var seqs []*int64
	for i, e := range w.entries {
		if w.refused[i] != nil || w.written[i] {
			continue
		}
		if w.seqs[i] != nil {
			e.State = outbox.Blocked
		}
		entries, seqs = append(entries, e), append(seqs, w.seqs[i])
	}
	for len(entries) > 0 {
		n := together(entries)
		if err := insertFull(ctx, w.tx, owner, entries[:n], seqs[:n]); err != nil {
			return err
		}
		entries, seqs = entries[n:], seqs[n:]
	}
	if again {
		if _, err := w.tx.Exec(ctx, sqlOutboxUndo, entryIDs(w.entries)); err != nil {
			return fmt.Errorf("insert entries: %w", err)
		}
	}
	_, err := fillGates(ctx, w.tx, w.gates)
	return err
}

// statementBytes bounds what one INSERT takes: events of one cause, such as a large message to many triggers, share their payload in memory,
// but have it once each in the statement.
const statementBytes = 16 << 20

// together is how many of the first entries, of which there is one at least, go into one statement.
func together(entries []*outbox.Entry) (n int) {
	size := 0
	for _, e := range entries {
		if size += len(e.Payload) + len(e.Envelope); size > statementBytes && n > 0 {
			break
		}
		n++
	}
	return n
}

// waits reports whether e comes to its gate only when it is due: an ordering key counts from acceptance.
func waits(e *outbox.Entry) bool { return !e.Ordered() && (e.Delay > 0 || !e.RunAt.IsZero()) }

// lockKey is the row by which writers of e take turns, where it needs one.
func lockKey(e *outbox.Entry) (gateKey, bool) {
	switch {
	case e.Gate != "":
		return gateKey{e.App, e.Gate}, true
	case e.Debounce != "":
		return gateKey{e.App, "debounce/" + e.Lane.String() + "/" + e.Debounce}, true
	case e.BatchSize > 0:
		return gateKey{e.App, "batch/" + e.Lane.String()}, true
	}
	return gateKey{}, false
}

// reserve locks the gates and takes a place before them for each entry, in the order of the entries.
func (w *keyedWrite) reserve(ctx context.Context) error {
	var keys []gateKey
	for _, e := range w.entries {
		if k, ok := lockKey(e); ok {
			keys = append(keys, k)
		}
	}
	if keys = gateKeys(keys); len(keys) == 0 {
		return nil
	}
	at := make(map[gateKey]int, len(keys))
	for i, k := range keys {
		at[k] = i
	}
	places := make([]int32, len(keys))
	for _, e := range w.entries {
		if e.Gate != "" {
			places[at[gateKey{e.App, e.Gate}]]++
		}
	}
	next, err := reserveGates(ctx, w.tx, keys, places)
	if err != nil {
		return err
	}
	for i, e := range w.entries {
		if e.Gate == "" || waits(e) {
			continue
		}
		k := at[gateKey{e.App, e.Gate}]
		seq := next[k]
		next[k]++
		w.seqs[i] = &seq
	}
	for i, k := range keys {
		if places[i] > 0 {
			w.gates = append(w.gates, k)
		}
	}
	return nil
}

const sqlKeyedKnown = `
SELECT id FROM outbox WHERE id = ANY ($1::uuid[])
UNION SELECT id FROM executions WHERE id = ANY ($1::uuid[]) AND finished_at > clock_timestamp() - interval '1 hour'`

// known marks entries that an earlier try has written.
func (w *keyedWrite) known(ctx context.Context) error {
	rows, _ := w.tx.Query(ctx, sqlKeyedKnown, entryIDs(w.entries))
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("look for entries: %w", err)
	}
	for i, e := range w.entries {
		w.written[i] = slices.Contains(ids, e.ID)
	}
	return nil
}

// sqlKeyedBudget counts events of first causes and returns how many there are by now, in the order of the array.
const sqlKeyedBudget = `
INSERT INTO roots AS r (id, app, events)
SELECT id, app, events FROM unnest($1::uuid[], $2::uuid[], $3::int[]) WITH ORDINALITY AS x (id, app, events, n) ORDER BY n
ON CONFLICT (id) DO UPDATE SET events = least(r.events::bigint + excluded.events, 1000000000), updated_at = clock_timestamp()
RETURNING events`

// budget refuses events whose first cause has led to too many. Those count as well, so a loop that is refused stays so;
// one that was accepted before does not count twice.
func (w *keyedWrite) budget(ctx context.Context) error {
	type root struct {
		id, app uuid.UUID
		entries []int
	}
	byID := map[uuid.UUID]*root{}
	var roots []*root
	for i, e := range w.entries {
		if e.Depth == 0 || w.written[i] || w.refused[i] != nil {
			continue
		}
		r := byID[e.RootID]
		if r == nil {
			r = &root{id: e.RootID, app: e.App}
			byID[e.RootID] = r
			roots = append(roots, r)
		}
		r.entries = append(r.entries, i)
	}
	if len(roots) == 0 {
		return nil
	}
	slices.SortFunc(roots, func(a, b *root) int { return bytes.Compare(a.id[:], b.id[:]) })
	ids, apps, counts := make([][16]byte, len(roots)), make([][16]byte, len(roots)), make([]int32, len(roots))
	for i, r := range roots {
		ids[i], apps[i], counts[i] = r.id, r.app, int32(len(r.entries))
	}
	rows, _ := w.tx.Query(ctx, sqlKeyedBudget, ids, apps, counts)
	events, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return fmt.Errorf("count events: %w", err)
	}
	over := map[uuid.UUID]bool{}
	for i, r := range roots {
		n := min(max(0, events[i]-outbox.MaxRootEvents), len(r.entries))
		for _, at := range r.entries[len(r.entries)-n:] {
			w.refused[at] = outbox.ErrBudget
			over[w.entries[at].ID] = true
		}
	}
	return w.freeKeys(ctx, over)
}

const sqlKeyedFree = `DELETE FROM idempotency_keys WHERE entry = ANY ($1::uuid[]) AND (app, scope, key) IN (
    SELECT app, scope, key FROM unnest($2::uuid[], $3::uuid[], $4::text[]) AS x (app, scope, key))`

// freeKeys gives the idempotency keys of entries back that were refused after they had taken theirs, and refuses their
// repeats in this batch likewise.
func (w *keyedWrite) freeKeys(ctx context.Context, over map[uuid.UUID]bool) error {
	var ids, apps, scopes [][16]byte
	var keys []string
	for i, e := range w.entries {
		if dup := (*outbox.Duplicate)(nil); errors.As(w.refused[i], &dup) && over[dup.Entry] {
			w.refused[i] = outbox.ErrBudget
		}
		if k := e.Idempotency; k != nil && over[e.ID] {
			ids, apps, scopes, keys = append(ids, e.ID), append(apps, e.App), append(scopes, k.Scope), append(keys, k.Key)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if _, err := w.tx.Exec(ctx, sqlKeyedFree, ids, apps, scopes, keys); err != nil {
		return fmt.Errorf("free idempotency keys: %w", err)
	}
	return nil
}

// sqlKeyedClaim takes idempotency keys that are free or have expired, and returns for each whom it belongs to now.
const sqlKeyedClaim = `
INSERT INTO idempotency_keys AS k (app, scope, key, hash, entry, expires_at)
SELECT app, scope, key, hash, entry, clock_timestamp() + interval '24 hours'
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::uuid[]) WITH ORDINALITY AS x (app, scope, key, hash, entry, n)
ORDER BY n
ON CONFLICT (app, scope, key) DO UPDATE SET
    hash = CASE WHEN k.expires_at <= clock_timestamp() THEN excluded.hash ELSE k.hash END,
    entry = CASE WHEN k.expires_at <= clock_timestamp() THEN excluded.entry ELSE k.entry END,
    expires_at = CASE WHEN k.expires_at <= clock_timestamp() THEN excluded.expires_at ELSE k.expires_at END
RETURNING hash, entry`

const sqlKeyedHolder = `
SELECT entry, hash FROM idempotency_keys WHERE app = $1 AND scope = $2 AND key = $3 AND expires_at > clock_timestamp()`

// Known returns the entry of an app that was accepted under an idempotency key, uuid.Nil: none was. For another content the error is
// outbox.ErrKeyReused.
func (s *KeyedStore) Known(ctx context.Context, app uuid.UUID, key *outbox.Idempotency) (entry uuid.UUID, err error) {
	var hash []byte
	err = s.pool.QueryRow(ctx, sqlKeyedHolder, app, key.Scope, key.Key).Scan(&entry, &hash)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return uuid.Nil, nil
	case err != nil:
		return uuid.Nil, fmt.Errorf("look for an idempotency key: %w", err)
	case !bytes.Equal(hash, key.Hash):
		return uuid.Nil, outbox.ErrKeyReused
	}
	return entry, nil
}

// idempotency refuses requests that were accepted before under the same key.
func (w *keyedWrite) idempotency(ctx context.Context) error {
	type id struct {
		app, scope uuid.UUID
		key        string
	}
	first := map[id]int{} // the first entry of each key
	var order []int
	for i, e := range w.entries {
		if e.Idempotency == nil || w.refused[i] != nil {
			continue
		}
		k := id{e.App, e.Idempotency.Scope, e.Idempotency.Key}
		if _, taken := first[k]; taken {
			continue
		}
		first[k] = i
		order = append(order, i)
	}
	if len(order) == 0 {
		return nil
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := w.entries[a], w.entries[b]
		if c := bytes.Compare(x.App[:], y.App[:]); c != 0 {
			return c
		}
		if c := bytes.Compare(x.Idempotency.Scope[:], y.Idempotency.Scope[:]); c != 0 {
			return c
		}
		return bytes.Compare([]byte(x.Idempotency.Key), []byte(y.Idempotency.Key))
	})
	n := len(order)
	apps, scopes, ids := make([][16]byte, n), make([][16]byte, n), make([][16]byte, n)
	keys, hashes := make([]string, n), make([][]byte, n)
	for at, i := range order {
		e := w.entries[i]
		apps[at], scopes[at], keys[at], hashes[at], ids[at] = e.App, e.Idempotency.Scope, e.Idempotency.Key, e.Idempotency.Hash, e.ID
	}
	type holder struct {
		Hash  []byte
		Entry uuid.UUID
	}
	rows, _ := w.tx.Query(ctx, sqlKeyedClaim, apps, scopes, keys, hashes, ids)
	holders, err := pgx.CollectRows(rows, pgx.RowToStructByPos[holder])
	if err != nil {
		return fmt.Errorf("claim idempotency keys: %w", err)
	}
	held := map[id]holder{}
	for at, i := range order {
		e := w.entries[i]
		held[id{e.App, e.Idempotency.Scope, e.Idempotency.Key}] = holders[at]
	}
	for i, e := range w.entries {
		if e.Idempotency == nil || w.refused[i] != nil {
			continue
		}
		switch h := held[id{e.App, e.Idempotency.Scope, e.Idempotency.Key}]; {
		case h.Entry == e.ID:
		case !bytes.Equal(h.Hash, e.Idempotency.Hash):
			w.refused[i] = outbox.ErrKeyReused
		default:
			w.refused[i] = &outbox.Duplicate{Entry: h.Entry}
		}
	}
	return nil
}

const (
	sqlKeyedPending = `
SELECT id, debounced_at, greatest(0, extract(epoch FROM debounced_at - now()) * 1000 + $4)::bigint
FROM outbox WHERE app = $1 AND lane = $2 AND debounce = $3 AND state = 0`

	// sqlKeyedSuperseded records an entry that another replaced before it was ever stored.
	sqlKeyedSuperseded = `
INSERT INTO executions (id, attempt, finished_at, app, script, trigger, kind, outcome, reason, depth, event_id, root_id,
    accepted_at, started_at, duration_us, node)
VALUES ($1, 0, clock_timestamp(), $2, $3, nullif($4::uuid, '00000000-0000-0000-0000-000000000000'), $5, 4, 'superseded', $6,
    $7, $8, now(), now(), 0, 0)`
)

// debounce ends what entries replace: one that is not due yet, or an earlier one of this batch.
func (w *keyedWrite) debounce(ctx context.Context) error {
	for i, e := range w.entries {
		if e.Debounce == "" || w.refused[i] != nil || w.written[i] {
			continue
		}
		if w.replaced(i) {
			w.written[i] = true
			_, err := w.tx.Exec(ctx, sqlKeyedSuperseded, e.ID, e.App, e.Target, e.Trigger, e.Kind, e.Depth, e.EventID, e.RootID)
			if err != nil {
				return fmt.Errorf("record superseded entry: %w", err)
			}
			continue
		}
		var id uuid.UUID
		var left int64 // milliseconds until the latest time
		err := w.tx.QueryRow(ctx, sqlKeyedPending, e.App, e.Lane, e.Debounce, e.DebounceMax.Milliseconds()).
			Scan(&id, &e.DebouncedAt, &left)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			continue
		case err != nil:
			return fmt.Errorf("look for a debounced entry: %w", err)
		}
		ended, err := endWaiting(ctx, w.tx, []uuid.UUID{id}, outbox.Cancelled, "superseded")
		if err != nil {
			return err
		}
		if ended == 0 { // it has become due meanwhile
			e.DebouncedAt = time.Time{}
			continue
		}
		e.Delay = min(e.DebounceFor, time.Duration(left)*time.Millisecond)
	}
	return nil
}

// replaced reports whether a later entry of this batch has the same debounce key. One that is refused, such as since it comes again,
// takes nobody's place.
func (w *keyedWrite) replaced(i int) bool {
	e := w.entries[i]
	for j := i + 1; j < len(w.entries); j++ {
		if x := w.entries[j]; w.refused[j] == nil && x.App == e.App && x.Lane == e.Lane && x.Debounce == e.Debounce {
			return true
		}
	}
	return false
}

const (
	// sqlKeyedGather adds entries to the open batch of a lane, or opens one, and returns how many it has and its end.
	sqlKeyedGather = `
UPDATE gates SET gathered = CASE WHEN until > clock_timestamp() THEN gathered ELSE 0 END + $3,
    until = CASE WHEN until > clock_timestamp() THEN until ELSE clock_timestamp() + $4 * interval '1 millisecond' END
WHERE app = $1 AND key = $2 RETURNING gathered, until`

	// sqlKeyedClose makes the entries of a full batch ready.
	sqlKeyedClose = `
WITH closed AS (UPDATE gates SET gathered = 0, until = NULL WHERE app = $1 AND key = $2)
UPDATE outbox SET state = 1, run_at = clock_timestamp() WHERE state = 0 AND run_at = $4 AND app = $1 AND lane = $3`
)

// gather holds entries back until their lane's batch is full or has waited long enough.
func (w *keyedWrite) gather(ctx context.Context) error {
	lanes := map[uuid.UUID][]*outbox.Entry{}
	for i, e := range w.entries {
		if e.BatchSize > 0 && w.refused[i] == nil && !w.written[i] {
			lanes[e.Lane] = append(lanes[e.Lane], e)
		}
	}
	for _, entries := range lanes {
		e := entries[0]
		key, _ := lockKey(e)
		var gathered int
		var until time.Time
		err := w.tx.QueryRow(ctx, sqlKeyedGather, key.app, key.key, len(entries), e.BatchWindow.Milliseconds()).Scan(&gathered, &until)
		if err != nil {
			return fmt.Errorf("gather a batch: %w", err)
		}
		if gathered >= e.BatchSize {
			if _, err := w.tx.Exec(ctx, sqlKeyedClose, key.app, key.key, e.Lane, until); err != nil {
				return fmt.Errorf("close a batch: %w", err)
			}
		}
		for _, e := range entries {
			if e.State, e.RunAt = outbox.Scheduled, until; gathered >= e.BatchSize {
				e.State, e.RunAt = outbox.Ready, time.Time{}
			}
		}
	}
	return nil
}
