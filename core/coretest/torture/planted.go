package torture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/picloud/picloud/core/planted"
)

// Defect is one that is there on purpose: the torture must find it, or it would not find one that is there by mistake.
type Defect struct {
	Name string
	// SQL are texts to replace in statements on their way to the database: old and new, in turn. Each old must occur.
	SQL []string
	// Beside is done every so often while the defect is there.
	Beside string
	// Options are of a torture that provokes it.
	Options Options
}

// repeat is a plan of one kind of fault again and again.
func repeat(kind string, nodes int, every, length time.Duration, times int) []Fault {
	var faults []Fault
	for i := range times {
		faults = append(faults, Fault{At: time.Second + time.Duration(i)*every, Kind: kind, Node: i % nodes, Length: length})
	}
	return faults
}

// Defects are what is planted.
var Defects = []Defect{
	{
		Name: "finish without token",
		SQL: []string{
			"o.id = x.id AND o.claims = x.claim AND o.owner + 0 = $1 AND o.state + 0 = 2\n        AND EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)",
			"o.id = x.id AND $1::bigint IS NOT NULL",
		},
		Options: Options{
			Nodes: 2, Slots: []int{32, 32}, Slow: true,
			Faults: repeat(nodeFreezeLong, 2, 14*time.Second, 12*time.Second, 4), Time: time.Minute,
		},
	},
	{
		Name: "attempt counted at the end",
		SQL: []string{
			"SET state = 2, owner = $1, attempt = o.attempt + 1", "SET state = 2, owner = $1, attempt = greatest(o.attempt, 1)",
			"engine_losses = o.engine_losses + CASE", "attempt = o.attempt + 1, engine_losses = o.engine_losses + CASE",
		},
		Options: Options{
			Nodes: 1, Slots: []int{32}, Slow: true, Faults: repeat(nodeKill, 1, 2*time.Second, 0, 10), Time: 25 * time.Second,
		},
	},
	{
		Name: "sweep without a second look",
		SQL: []string{
			"LIMIT 500 FOR UPDATE OF o SKIP LOCKED\n), freed", "AND pg_sleep(0.05)::text IS NOT NULL LIMIT 500\n), freed",
		},
		Options: Options{
			Nodes: 3, Slots: []int{32, 32, 32}, Slow: true, Faults: repeat(nodeKill, 3, 10*time.Second, 8*time.Second, 5),
			Time: 55 * time.Second,
		},
	},
	{
		Name: "take-over when the session is lost",
		SQL: []string{
			"interval '5 seconds'", "interval '0 seconds'",
			"(SELECT backend_start < clock_timestamp() - interval '10 seconds' FROM pg_stat_get_activity(pg_backend_pid()))", "true",
		},
		Options: Options{
			Nodes: 2, Slots: []int{32, 32}, Slow: true, Faults: repeat(dbReset, 2, time.Second, 0, 25), Time: 30 * time.Second,
		},
	},
	{
		Name:   "dead letter in two transactions",
		SQL:    []string{"INSERT INTO dead_letters (", "INSERT INTO planted_letters ("},
		Beside: "WITH l AS (DELETE FROM planted_letters RETURNING *) INSERT INTO dead_letters SELECT * FROM l",
		Options: Options{
			Nodes: 1, Slots: []int{8}, Faults: repeat(nodeKill, 1, 5*time.Second, 0, 3), Time: 20 * time.Second,
		},
	},
	{
		Name: "blocked entries among the ready",
		SQL:  []string{"timeout_ms, kind, state,\n    priority", "timeout_ms, kind, CASE WHEN state = 3 THEN 1 ELSE state END,\n    priority"},
		Options: Options{
			Nodes: 2, Slots: []int{8, 8}, Calm: true, Time: time.Minute, // ends when it is found
		},
	},
	{
		Name: "depth reset on replay",
		SQL:  []string{"d.priority, d.max_attempts, d.depth, d.backoff", "d.priority, d.max_attempts, 0::smallint, d.backoff"},
		Options: Options{
			Nodes: 1, Slots: []int{8}, Calm: true, Time: 30 * time.Second,
		},
	},
	{
		Name:    planted.NoJitter,
		Options: Options{Nodes: 1, Slots: []int{8}, Calm: true, Time: 25 * time.Second},
	},
	{
		Name:    planted.Unchecked,
		Options: Options{Nodes: 2, Slots: []int{8, 8}, Calm: true, Time: 20 * time.Second},
	},
	{
		Name:    planted.ReplyKept,
		Options: Options{Nodes: 1, Slots: []int{8}, Calm: true, Time: 20 * time.Second},
	},
}

// plant puts the defect in. It returns whether every text of it has passed.
func (d *Defect) plant(w *World) (passed func() error) {
	counts := make([]atomic.Int64, len(d.SQL)/2)
	for _, n := range w.nodes {
		n.proxy.Rewrite(func(sql string) string {
			for i := range counts {
				if strings.Contains(sql, d.SQL[2*i]) {
					counts[i].Add(1)
					sql = strings.ReplaceAll(sql, d.SQL[2*i], d.SQL[2*i+1])
				}
			}
			return sql
		})
	}
	return func() error {
		for i := range counts {
			if counts[i].Load() == 0 {
				return fmt.Errorf("no statement had %q in it: the defect was not planted", d.SQL[2*i])
			}
		}
		return nil
	}
}

// beside does over and over what belongs to a defect.
func (d *Defect) beside(ctx context.Context, w *World) error {
	if d.Beside == "" {
		return nil
	}
	conn, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, "CREATE TABLE planted_letters (LIKE dead_letters INCLUDING DEFAULTS)"); err != nil {
		return err
	}
	go func() {
		conn, err := w.connect(ctx)
		if err != nil {
			return
		}
		defer closeConn(conn)
		for pause(ctx, 200*time.Millisecond) {
			_, _ = conn.Exec(ctx, d.Beside)
		}
	}()
	return nil
}

// Find runs a torture with the defect in, and returns what was broken by it; "" if nothing was.
func Find(ctx context.Context, w *World) (string, error) {
	d := w.options.Defect
	passed := d.plant(w)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := d.beside(ctx, w); err != nil {
		return "", err
	}
	go func() {
		select {
		case <-w.broken: // that is enough
		case <-ctx.Done():
		}
		stop()
	}()
	err := w.Run(ctx)
	if first := w.firstBroken(); first != "" {
		return first, passed()
	}
	text, _ := w.Report(false)
	w.t.Log(text)
	return "", errors.Join(err, passed())
}
