package postgres

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgxpool"
)

// NodeConns is how many connections a node takes at most: its pools, its heartbeat, and the one that listens.
const NodeConns = 25

const sqlRoom = `SELECT (SELECT count(*) FROM nodes), current_setting('max_connections')::int`

// Room says how many nodes there are, and how many connections the server takes.
func Room(ctx context.Context, pool *pgxpool.Pool) (nodes, conns int, err error) {
	err = pool.QueryRow(ctx, sqlRoom).Scan(&nodes, &conns)
	if err != nil {
		return 0, 0, fmt.Errorf("look for room for connections: %w", err)
	}
	return nodes, conns, nil
}

// Pools divide a node's connections by what must not wait for what.
type Pools struct {
	General *pgxpool.Pool // the API, claims, maintenance
	Durable *pgxpool.Pool // the writers and the settler of async entries
	Fast    *pgxpool.Pool // those of sync calls: synchronous_commit off
	Data    *pgxpool.Pool // the data of scripts
}

// OpenPools opens the connections of a node. The caller closes them.
func OpenPools(ctx context.Context, url string, log hclog.Logger) (*Pools, error) {
	p := &Pools{}
	for _, o := range []struct {
		pool     **pgxpool.Pool
		conns    int32
		settings map[string]string
	}{
		{&p.General, 10, map[string]string{"plan_cache_mode": "force_custom_plan"}},
		{&p.Durable, 3, hotSettings(nil)},
		{&p.Fast, 3, hotSettings(map[string]string{"synchronous_commit": "off"})},
		{&p.Data, 6, map[string]string{"statement_timeout": "10s", "idle_in_transaction_session_timeout": "30s"}},
	} {
		pool, err := Open(ctx, Config{URL: url, MaxConns: o.conns, Settings: o.settings}, log)
		if err != nil {
			p.Close()
			return nil, err
		}
		*o.pool = pool
	}
	return p, nil
}

// Close closes what is open.
func (p *Pools) Close() {
	for _, pool := range []*pgxpool.Pool{p.Data, p.Fast, p.Durable, p.General} {
		if pool != nil {
			pool.Close()
		}
	}
}

// hotSettings are for connections that only insert and settle by arrays of ids. Their statements are planned once, as
// index look-ups: planning costs more than running a batch of twenty, and a plan by statistics would scan the table while
// it is small and go on scanning when it no longer is.
func hotSettings(s map[string]string) map[string]string {
	if s == nil {
		s = map[string]string{}
	}
	s["plan_cache_mode"] = "force_generic_plan"
	for _, off := range []string{"enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"} {
		s[off] = "off"
	}
	return s
}
