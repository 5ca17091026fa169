package source_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/sdk/source/sourcetest/feed"
)

// child is a node until a failpoint kills it. It prints the id of each process that it launches. Its arguments are the database, the kind
// of source, its configuration, and what Enable takes.
func child() error {
	ctx := context.Background()
	pool, err := postgres.Open(ctx, postgres.Config{URL: os.Args[1], MaxConns: 4}, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := failpoint.Enable(os.Args[4], 1); err != nil {
		return err
	}
	_, _, err = join(pool, hclog.NewNullLogger(), snapshot(os.Args[2], []byte(os.Args[3]), 1, true),
		func(pid int) { fmt.Println(pid) })
	if err != nil {
		return err
	}
	select {} // until a failpoint ends it
}

// Wherever the node or the plugin is killed, each event is taken in once: by its cursor, or, where the source has none and everything comes
// again, by its id.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"feed", "again"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			pool, list := coretest.DB(t), feed.NewServer(t)
			store(t, pool, kind, list.Config())
			seed := uint64(time.Now().UnixNano())
			random := rand.New(rand.NewPCG(seed, 0))
			t.Logf("seed %d", seed)
			points := []string{
				failpoint.SourceReceived, failpoint.DataChanged, failpoint.DataCaused, failpoint.SourceCommitted, failpoint.SourceAcked,
			}
			happened := 0
			for round := range 24 {
				spec := fmt.Sprintf("%s=kill@%d", points[random.IntN(len(points))], 1+random.IntN(6))
				cmd := coretest.Command(t, "node", pool.Config().ConnConfig.ConnString(), kind, string(list.Config()), spec)
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				lines := bufio.NewScanner(out)
				list.Happen(texts(happened, 20)...)
				happened += 20
				for killed := 0; lines.Scan(); killed++ { // until the node is killed
					pid, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
					if err != nil {
						t.Fatalf("seed %d: %q", seed, lines.Text())
					}
					if killed == 0 && random.IntN(2) == 0 {
						_ = syscall.Kill(pid, syscall.SIGKILL) // it may have gone by itself
					}
					list.Happen(texts(happened, 60)...) // enough for the point to be reached
					happened += 60
				}
				_ = cmd.Wait() // killed
				if state := cmd.ProcessState.Sys().(syscall.WaitStatus); !state.Signaled() || state.Signal() != syscall.SIGKILL {
					t.Fatalf("seed %d, round %d, %s: %v", seed, round, spec, cmd.ProcessState)
				}
				if _, err := pool.Exec(t.Context(), `DELETE FROM nodes`); err != nil {
					t.Fatal(err)
				}
			}
			start(t, pool, snapshot(kind, list.Config(), 1, true))
			entries(t, pool, happened)
			if f := state(t, pool); kind == "feed" && f.Events != int64(happened) {
				t.Errorf("seed %d: %d events are counted, of %d", seed, f.Events, happened)
			}
		})
	}
}
