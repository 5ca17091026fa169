package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/dispatcher"
)

// lockClass is the first half of the advisory locks that nodes hold on their epochs.
const lockClass = 0x9c10

// NodeStore keeps one node's epoch alive, over a connection of its own: a slow query elsewhere must never look like a
// dead node, and the session's advisory lock tells the others when the process is gone. Not safe for concurrent use.
type NodeStore struct {
	config *pgx.ConnConfig
	conn   *pgx.Conn
	locked bool // conn holds the lock of the epoch
}

// NewNodeStore makes a store that connects to url when it is first used.
func NewNodeStore(url string) (*NodeStore, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse database URL: %w", err)
	}
	config.RuntimeParams["application_name"] = "picloud heartbeat"
	config.RuntimeParams["synchronous_commit"] = "off"
	return &NodeStore{config: config}, nil
}

// sqlNodeJoin begins an epoch. Older epochs of the same name whose session lock is free belonged to this node's former
// life: they end here, so a restarted node has its work back at once.
const sqlNodeJoin = `
WITH former AS (
    DELETE FROM nodes WHERE CASE WHEN name = $1 THEN pg_try_advisory_xact_lock($2, epoch::int) ELSE false END
)
INSERT INTO nodes (name, address, kinds, version) VALUES ($1, $3, $4, $5) RETURNING epoch`

const sqlNodeLock = `SELECT pg_try_advisory_lock($1, $2::int)`

// Join begins a new epoch for the node, in a new session: the old one would go on holding the lock of the old epoch.
func (s *NodeStore) Join(ctx context.Context, n dispatcher.Node) (int64, error) {
	s.drop()
	if err := s.connect(ctx); err != nil {
		return 0, err
	}
	var epoch int64
	err := s.conn.QueryRow(ctx, sqlNodeJoin, n.Name, lockClass, n.Address, n.Kinds, n.Version).Scan(&epoch)
	if err != nil {
		return 0, s.failed("join", err)
	}
	return epoch, s.lock(ctx, epoch)
}

// lock takes the session lock of the epoch if it is free. It may not be for a while: after a broken connection the
// server can still believe in the old one. Then the next pulse tries again; meanwhile the heartbeat alone speaks for us.
func (s *NodeStore) lock(ctx context.Context, epoch int64) error {
	if err := s.conn.QueryRow(ctx, sqlNodeLock, lockClass, epoch).Scan(&s.locked); err != nil {
		return s.failed("lock epoch", err)
	}
	return nil
}

// sqlNodePulse is all that an idle node asks: one statement a second. A node is late when its lock is free and its
// heartbeat is 5 s old, or when it is 10 s old whoever holds the lock; while our own session is younger than 10 s nobody
// is late: a restart of the server, also one after a crash of a single backend, frees all locks at once and delays all
// heartbeats, and ends all sessions.
const sqlNodePulse = `
WITH beat AS (
    UPDATE nodes SET beat_at = clock_timestamp() WHERE epoch = $1 RETURNING 1
)
SELECT EXISTS (SELECT 1 FROM beat),
    (SELECT version FROM config),
    EXISTS (SELECT 1 FROM nodes WHERE epoch <> $1 AND beat_at < clock_timestamp() - interval '5 seconds')
        AND ` + nodeSettled + `,
    EXISTS (SELECT 1 FROM outbox WHERE state = 1),
    (SELECT (extract(epoch FROM min(run_at) - clock_timestamp()) * 1000)::bigint FROM outbox WHERE state = 0),
    (WITH RECURSIVE owners (owner) AS (
        (SELECT owner FROM outbox WHERE state = 2 ORDER BY owner LIMIT 1)
        UNION ALL
        SELECT (SELECT o.owner FROM outbox o WHERE o.state = 2 AND o.owner > p.owner ORDER BY o.owner LIMIT 1)
        FROM owners p WHERE p.owner IS NOT NULL)
    SELECT count(*) FROM owners WHERE owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.epoch = owners.owner)),
    (SELECT count(*) FROM nodes),
    EXISTS (SELECT 1 FROM outbox WHERE expires_at <= clock_timestamp() AND state <> 2),
    EXISTS (SELECT 1 FROM outbox WHERE owner = $1 AND cancelled_at IS NOT NULL),
    EXISTS (SELECT 1 FROM outbox WHERE state = 3),
    EXISTS (SELECT 1 FROM dead_letters WHERE NOT announced)
        OR EXISTS (SELECT 1 FROM replays WHERE state = 'running' AND next_at <= clock_timestamp())`

// Pulse beats for the epoch and says what there is to do.
func (s *NodeStore) Pulse(ctx context.Context, epoch int64) (dispatcher.Pulse, error) {
	var p dispatcher.Pulse
	if err := s.connect(ctx); err != nil {
		return p, err
	}
	if !s.locked {
		if err := s.lock(ctx, epoch); err != nil {
			return p, err
		}
	}
	var due *int64
	var strangers int
	err := s.conn.QueryRow(ctx, sqlNodePulse, epoch).Scan(&p.Alive, &p.ConfigVersion, &p.Late, &p.Ready, &due, &strangers, &p.Nodes,
		&p.Expired, &p.Cancelled, &p.Blocked, &p.Letters)
	if err != nil {
		return p, s.failed("pulse", err)
	}
	p.Strangers = strangers > 0
	if due != nil {
		p.Scheduled = true
		p.NextDue = time.Duration(*due) * time.Millisecond
	}
	return p, nil
}

// nodeSettled says that this session has lasted for 10 s.
const nodeSettled = `(SELECT backend_start < clock_timestamp() - interval '10 seconds' FROM pg_stat_get_activity(pg_backend_pid()))`

const sqlNodeEvict = `
DELETE FROM nodes WHERE epoch <> $1 AND ` + nodeSettled + `
    AND CASE WHEN beat_at < clock_timestamp() - interval '10 seconds' THEN true
        WHEN beat_at < clock_timestamp() - interval '5 seconds' THEN pg_try_advisory_xact_lock($2, epoch::int)
        ELSE false END`

// Evict ends the epochs of nodes that are gone and returns how many.
func (s *NodeStore) Evict(ctx context.Context, epoch int64) (int, error) {
	if err := s.connect(ctx); err != nil {
		return 0, err
	}
	tag, err := s.conn.Exec(ctx, sqlNodeEvict, epoch, lockClass)
	if err != nil {
		return 0, s.failed("evict", err)
	}
	return int(tag.RowsAffected()), nil
}

const sqlNodeLeave = `DELETE FROM nodes WHERE epoch = $1`

// Leave ends the epoch and closes the connection. One that breaks is made anew once: it may have been broken for long.
func (s *NodeStore) Leave(ctx context.Context, epoch int64) error {
	defer s.drop()
	var err error
	for range 2 {
		if err = s.connect(ctx); err != nil {
			continue
		}
		if _, err = s.conn.Exec(ctx, sqlNodeLeave, epoch); err == nil {
			return nil
		}
		err = s.failed("leave", err)
	}
	return err
}

func (s *NodeStore) connect(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	conn, err := pgx.ConnectConfig(ctx, s.config)
	if err != nil {
		return fmt.Errorf("connect heartbeat: %w", err)
	}
	s.conn = conn
	return nil
}

// failed drops the connection: after any error the next call begins with a fresh one.
func (s *NodeStore) failed(what string, err error) error {
	s.drop()
	return fmt.Errorf("%s: %w", what, err)
}

func (s *NodeStore) drop() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx)
	s.conn, s.locked = nil, false
}
