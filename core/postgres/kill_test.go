package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/data"
	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
)

var kills = flag.Int("kills", 30, "how often TestKVKilled kills")

// change is the child of TestKVKilled: it counts up values, each with an event that has what came of it, until a failpoint or the
// test kills it. Its arguments are the database, the epoch, the app, and what Enable takes.
func change() error {
	ctx := context.Background()
	owner, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		return err
	}
	app := uuid.MustParse(os.Args[3])
	pool, err := postgres.Open(ctx, postgres.Config{URL: os.Args[1], MaxConns: 4}, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	if err := failpoint.Enable(os.Args[4], 1); err != nil {
		return err
	}
	store := postgres.NewKVStore(pool)
	failed := make(chan error)
	for n := range 4 {
		go func() {
			for i := n; ; i++ {
				place := data.Place{App: app, Collection: "c", Key: strconv.Itoa(i % 3)}
				_, _, err := store.Increment(ctx, owner, place, 1, 0, func(c data.Change) ([]*outbox.Entry, error) {
					e := &outbox.Entry{
						ID: uuid.New(), EventID: uuid.New(), App: app, Lane: uuid.New(), Target: uuid.New(), RootID: uuid.New(), Depth: 1,
						TargetKind: outbox.TargetScript, Kind: outbox.KindKV, State: outbox.Ready, MaxAttempts: 1, Timeout: time.Second,
						Envelope: []byte{1}, Payload: fmt.Append(nil, c.Key, "=", string(c.Value)),
					}
					return []*outbox.Entry{e}, nil
				})
				if err != nil {
					failed <- err
				}
				if _, err := os.Stdout.WriteString(".\n"); err != nil {
					failed <- err
				}
			}
		}()
	}
	return <-failed
}

// A process that is killed between a change of data and its event, wherever that is, leaves both or none: each value that a counter ever had
// has its event, once.
func TestKVKilled(t *testing.T) {
	t.Parallel()
	pool := coretest.DB(t)
	url := pool.Config().ConnConfig.ConnString()
	app := uuid.New()
	var owner int64
	if err := pool.QueryRow(t.Context(), `INSERT INTO nodes (name) VALUES ('n') RETURNING epoch`).Scan(&owner); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("%d kills, seed %d", *kills, seed)
	points := []string{failpoint.DataChanged, failpoint.DataCaused, failpoint.DataCommitted, ""}
	last := 0
	for round := range *kills {
		point := points[random.IntN(len(points))]
		spec := ""
		if point != "" {
			spec = fmt.Sprintf("%s=kill@%d", point, 1+random.IntN(12))
		}
		cmd := coretest.Command(t, "change", url, strconv.FormatInt(owner, 10), app.String(), spec)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		said := &bytes.Buffer{}
		cmd.Stderr = said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if point == "" { // after so many answers, wherever it is then
			buf := make([]byte, 1)
			for range 2 * random.IntN(12) {
				if _, err := out.Read(buf); err != nil {
					break
				}
			}
			_ = cmd.Process.Kill()
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("round %d, %s: %v %s", round, spec, err, said)
		}
		n := checkPairs(t, pool.Config().ConnConfig, app)
		if point != "" && n < last {
			t.Fatalf("round %d, %s: fewer values than before", round, spec)
		}
		last = n
	}
	if last < *kills {
		t.Errorf("only %d values were written", last)
	}
}

// checkPairs checks that every value has its event, and every event its value. It returns how many there are.
func checkPairs(t *testing.T, c *pgx.ConnConfig, app uuid.UUID) int {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var wrong []string
	total := 0
	// What the killed process had sent may still be on its way: a lock on the values waits for it.
	err = pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `LOCK TABLE kv_entries IN SHARE MODE`); err != nil {
			return err
		}
		rows, _ := tx.Query(t.Context(), `SELECT key, value::int FROM kv_entries WHERE app = $1`, app)
		values := map[string]int{}
		var key string
		var value int
		if _, err := pgx.ForEachRow(rows, []any{&key, &value}, func() error { values[key] = value; return nil }); err != nil {
			return err
		}
		rows, _ = tx.Query(t.Context(), `SELECT convert_from(payload, 'UTF8') FROM outbox WHERE app = $1`, app)
		events, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		seen := map[string]int{}
		for _, e := range events {
			seen[e]++
		}
		for key, most := range values {
			total += most
			for v := 1; v <= most; v++ {
				if pair := fmt.Sprintf("%s=%d", key, v); seen[pair] != 1 {
					wrong = append(wrong, fmt.Sprintf("%s has %d events", pair, seen[pair]))
				}
			}
		}
		if len(events) != total {
			wrong = append(wrong, fmt.Sprintf("%d events for %d values", len(events), total))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(wrong) > 0 {
		t.Fatal(strings.Join(wrong, "\n"))
	}
	return total
}
