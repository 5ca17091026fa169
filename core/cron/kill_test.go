package cron_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/cron"
	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/tenant"
)

// clockwork is the child of TestKilled: time passes, minute by minute, and it fires three triggers until a failpoint kills it. It prints
// each minute that it is through with. Its arguments are the database, the epoch, the minute to begin with, and what Enable takes.
func clockwork() error {
	ctx := context.Background()
	owner, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		return err
	}
	minute, err := strconv.Atoi(os.Args[3])
	if err != nil {
		return err
	}
	pool, err := postgres.Open(ctx, postgres.Config{URL: os.Args[1], MaxConns: 2}, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := failpoint.Enable(os.Args[4], 1); err != nil {
		return err
	}
	id := func(n byte) uuid.UUID { return uuid.UUID{15: n} }
	app := &tenant.App{ID: id(1)}
	app.Scripts = []tenant.Script{{ID: id(2), App: app.ID, Version: 1, Timeout: time.Minute, MaxAttempts: 1}}
	for n := range byte(3) {
		app.Triggers = append(app.Triggers, tenant.Trigger{
			ID: id(10 + n), App: app.ID, Kind: tenant.TriggerCron, Script: id(2), Enabled: true, Filter: tenant.TriggerFilter{Schedule: "* * * * *"},
		})
	}
	snapshot := tenant.NewSnapshot(1<<40, []*tenant.App{app})
	s := cron.New(cron.Config{
		Store: postgres.NewCronStore(pool), Outbox: &node{epoch: owner}, Log: hclog.NewNullLogger(),
		Snapshot: func() *tenant.Snapshot { return snapshot }, Now: func() time.Time { return time.Unix(int64(minute)*60, 0) },
	})
	for ; ; minute++ {
		wait := time.Second // what a killed process had sent may still hold a trigger
		for wait == time.Second {
			if wait, err = s.Step(ctx); err != nil {
				return err
			}
		}
		if _, err := fmt.Println(minute); err != nil {
			return err
		}
	}
}

// Wherever a process is killed while it fires, each time is fired once.
func TestKilled(t *testing.T) {
	t.Parallel()
	pool := coretest.DB(t)
	var owner int64
	if err := pool.QueryRow(t.Context(), `INSERT INTO nodes (name) VALUES ('n') RETURNING epoch`).Scan(&owner); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	const first = 1000
	minute := first
	for range 12 {
		points := []string{failpoint.DataChanged, failpoint.DataCaused, failpoint.DataCommitted}
		spec := fmt.Sprintf("%s=kill@%d", points[random.IntN(len(points))], 1+random.IntN(10))
		cmd := coretest.Command(t, "clockwork", pool.Config().ConnConfig.ConnString(), strconv.FormatInt(owner, 10), strconv.Itoa(minute), spec)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(out); lines.Scan(); minute++ {
			if lines.Text() != strconv.Itoa(minute) {
				t.Fatalf("seed %d: %q in minute %d", seed, lines.Text(), minute)
			}
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("seed %d, %s: %v", seed, spec, err)
		}
	}
	rows, err := pool.Query(t.Context(), `SELECT trigger, convert_from(payload, 'UTF8')::jsonb->>'scheduled_at', count(*) FROM outbox
		WHERE kind = $1 GROUP BY 1, 2`, outbox.KindCron)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	fired := map[uuid.UUID]map[string]bool{}
	for rows.Next() {
		var trigger uuid.UUID
		var at string
		var count int
		if err := rows.Scan(&trigger, &at, &count); err != nil {
			t.Fatal(err)
		}
		if count != 1 {
			t.Errorf("seed %d: %s is fired %d times", seed, at, count)
		}
		if fired[trigger] == nil {
			fired[trigger] = map[string]bool{}
		}
		fired[trigger][at] = true
	}
	if len(fired) != 3 || minute < first+12 {
		t.Errorf("seed %d: %d triggers were fired until minute %d", seed, len(fired), minute)
	}
	for trigger, times := range fired {
		for m := first + 1; m < minute; m++ { // in the first they were planned
			if at := time.Unix(int64(m)*60, 0).UTC().Format(time.RFC3339); !times[at] {
				t.Errorf("seed %d: %s is not fired at %s", seed, trigger, at)
			}
		}
	}
}
