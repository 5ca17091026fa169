package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/failpoint"
)

// gateKey names a row of gates.
type gateKey struct {
	app uuid.UUID
	key string
}

// gateKeys sorts keys and drops repeats: whoever locks several gates locks them in this order.
func gateKeys(keys []gateKey) []gateKey {
	slices.SortFunc(keys, func(a, b gateKey) int {
		if c := bytes.Compare(a.app[:], b.app[:]); c != 0 {
			return c
		}
		return strings.Compare(a.key, b.key)
	})
	return slices.Compact(keys)
}

func gateArrays(keys []gateKey) (apps [][16]byte, names []string) {
	apps, names = make([][16]byte, len(keys)), make([]string, len(keys))
	for i, k := range keys {
		apps[i], names[i] = k.app, k.key
	}
	return apps, names
}

// The rows come in the order of the arrays, which is that of gateKeys. "C" orders text as Go does.
const sqlGateLock = `
SELECT 1 FROM gates g JOIN unnest($1::uuid[], $2::text[]) AS x (app, key) ON g.app = x.app AND g.key = x.key
ORDER BY g.app, g.key COLLATE "C" FOR UPDATE OF g`

// lockGates locks the gates of entries that hold or await them, so their rows exist. keys must come from gateKeys.
func lockGates(ctx context.Context, tx querier, keys []gateKey) error {
	if len(keys) == 0 {
		return nil
	}
	apps, names := gateArrays(keys)
	if _, err := tx.Exec(ctx, sqlGateLock, apps, names); err != nil {
		return fmt.Errorf("lock gates: %w", err)
	}
	failpoint.Hit(failpoint.GateLocked)
	return nil
}

const sqlGateReserve = `
INSERT INTO gates AS g (app, key, next_seq)
SELECT app, key, 1 + places FROM unnest($1::uuid[], $2::text[], $3::int[]) WITH ORDINALITY AS x (app, key, places, n)
ORDER BY n
ON CONFLICT (app, key) DO UPDATE SET next_seq = g.next_seq + excluded.next_seq - 1
RETURNING next_seq`

// reserveGates locks gates, making those that do not exist, and takes places before each. It returns the first place
// taken before each gate, in the order of keys, which must come from gateKeys.
func reserveGates(ctx context.Context, tx querier, keys []gateKey, places []int32) ([]int64, error) {
	apps, names := gateArrays(keys)
	rows, _ := tx.Query(ctx, sqlGateReserve, apps, names, places)
	next, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("lock gates: %w", err)
	}
	for i := range next {
		next[i] -= int64(places[i])
	}
	failpoint.Hit(failpoint.GateLocked)
	return next, nil
}

// sqlGateFill lets the first of those through that wait, as many as there is room for. One that is not due yet holds its
// place while it waits for its time.
const sqlGateFill = `
WITH g AS (
    SELECT x.app, x.key,
        (SELECT count(*) FROM outbox h WHERE h.app = x.app AND h.gate = x.key AND h.gate_held) AS held,
        (SELECT b.gate_limit FROM outbox b WHERE b.state = 3 AND b.app = x.app AND b.gate = x.key
            ORDER BY b.gate_seq LIMIT 1) AS room
    FROM unnest($1::uuid[], $2::text[]) AS x (app, key)
)
UPDATE outbox o SET gate_held = true, state = CASE WHEN o.run_at <= clock_timestamp() THEN 1 ELSE 0 END
WHERE o.id = ANY (ARRAY (
    SELECT n.id FROM g CROSS JOIN LATERAL (
        SELECT b.id FROM outbox b WHERE b.state = 3 AND b.app = g.app AND b.gate = g.key
        ORDER BY b.gate_seq LIMIT greatest(g.room - g.held, 0)) n
    WHERE g.room IS NOT NULL))`

// fillGates lets those through for whom there is room now, and returns how many. The caller has locked the gates, in an
// earlier statement of the same transaction.
func fillGates(ctx context.Context, tx querier, keys []gateKey) (int, error) {
	if len(keys) == 0 {
		return 0, nil
	}
	apps, names := gateArrays(keys)
	tag, err := tx.Exec(ctx, sqlGateFill, apps, names)
	if err != nil {
		return 0, fmt.Errorf("fill gates: %w", err)
	}
	failpoint.Hit(failpoint.GateFilled)
	return int(tag.RowsAffected()), nil
}

const sqlGateStuck = `
WITH RECURSIVE waiting (app, gate) AS (
    (SELECT o.app, o.gate FROM outbox o WHERE o.state = 3 ORDER BY o.app, o.gate LIMIT 1)
    UNION ALL
    SELECT n.app, n.gate FROM waiting w CROSS JOIN LATERAL (
        SELECT o.app, o.gate FROM outbox o WHERE o.state = 3 AND (o.app, o.gate) > (w.app, w.gate)
        ORDER BY o.app, o.gate LIMIT 1) n
)
SELECT w.app, w.gate FROM waiting w
WHERE (SELECT count(*) FROM outbox h WHERE h.app = w.app AND h.gate = w.gate AND h.gate_held) <
    (SELECT b.gate_limit FROM outbox b WHERE b.state = 3 AND b.app = w.app AND b.gate = w.gate ORDER BY b.gate_seq LIMIT 1)
LIMIT 1000`

// Gates that nobody seems to need are locked by one statement, and dropped by the next if that is still so.
const (
	sqlGateIdle = `
SELECT g.app, g.key FROM gates g WHERE ` + gateIdle + ` LIMIT 1000 FOR UPDATE SKIP LOCKED`

	sqlGateDrop = `
DELETE FROM gates g USING unnest($1::uuid[], $2::text[]) AS x (app, key)
WHERE g.app = x.app AND g.key = x.key AND ` + gateIdle

	gateIdle = `coalesce(g.until <= clock_timestamp(), true)
    AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.state = 3 AND o.app = g.app AND o.gate = g.key)
    AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.gate_held AND o.app = g.app AND o.gate = g.key)`
)

// MendGates lets entries through that wait before a gate with room, and returns how many: each of them is a defect, since
// whoever makes room fills it. It also drops gates that are no longer needed.
func (s *OutboxStore) MendGates(ctx context.Context) (orphans int, err error) {
	rows, _ := s.pool.Query(ctx, sqlGateStuck)
	keys, err := pgx.CollectRows(rows, scanGateKey)
	if err != nil {
		return 0, fmt.Errorf("look for stuck gates: %w", err)
	}
	if keys = gateKeys(keys); len(keys) > 0 {
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if err := lockGates(ctx, tx, keys); err != nil {
				return err
			}
			orphans, err = fillGates(ctx, tx, keys)
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return orphans, s.dropGates(ctx)
}

func (s *OutboxStore) dropGates(ctx context.Context) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sqlGateIdle)
		keys, err := pgx.CollectRows(rows, scanGateKey)
		if err != nil {
			return fmt.Errorf("look for idle gates: %w", err)
		}
		apps, names := gateArrays(keys)
		if _, err := tx.Exec(ctx, sqlGateDrop, apps, names); err != nil {
			return fmt.Errorf("drop gates: %w", err)
		}
		return nil
	})
}

func scanGateKey(row pgx.CollectableRow) (k gateKey, err error) {
	err = row.Scan(&k.app, &k.key)
	return k, err
}
