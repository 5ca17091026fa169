package engine_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/engine"
	"github.com/picloud/picloud/core/tenant"
)

// which returns a number of the process that a run was in.
func (b *bundle) which(t testing.TB, s *tenant.Script) int {
	t.Helper()
	text, err := b.invoke(t.Context(), s, false, "which")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// background starts a run that lasts until end is called, which returns how it ended. It has begun when background returns.
func (b *bundle) background(t testing.TB, s *tenant.Script, body string) (end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- b.invokeBegun(ctx, s, body, begun) }()
	<-begun
	return func() error { cancel(); return <-ended }
}

// A process in which nothing runs is ended after a while, and not before; the next call starts one.
func TestIdleStop(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *engine.Config) { c.Idle = time.Minute })
	idle, busy := script(uuid.New(), "a"), script(uuid.New(), "b")
	b.mustEcho(t, idle)
	end := b.background(t, busy, "wait")
	b.pass(59 * time.Second)
	b.mustEcho(t, idle)
	b.pass(59 * time.Second)
	if n := b.Stats().Processes["puppet"]; n != 2 {
		t.Fatalf("%d processes", n)
	}
	b.pass(time.Second)
	<-b.launched()[0].Done()
	if s := b.Stats(); s.IdleStops != 1 || s.Crashes != 0 {
		t.Errorf("%+v", s)
	}
	before := b.which(t, busy)
	_ = end()
	if b.which(t, busy) != before {
		t.Error("a process with a run was ended")
	}
	b.mustEcho(t, idle)
	if n := len(b.launched()); n != 3 {
		t.Errorf("%d processes in all", n)
	}
}

// A process that is due is replaced by one that has loaded what it had; its runs end in it.
func TestReplacement(t *testing.T) {
	t.Parallel()
	for reason, c := range map[string]struct {
		limit func(*engine.Config)
		pass  time.Duration
	}{
		"runs":   {func(c *engine.Config) { c.Runs = 3 }, 0},
		"age":    {func(c *engine.Config) { c.Age = time.Hour }, time.Hour},
		"memory": {func(c *engine.Config) { c.Memory = 1 }, 2 * time.Minute},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			b := setup(t, c.limit)
			app := uuid.New()
			one, two := script(app, "a"), script(app, "b")
			b.pass(0)
			b.mustEcho(t, one)
			old := b.which(t, two)
			end := b.background(t, one, "wait")
			loads := b.loads.Load()
			b.pass(c.pass)
			coretest.Eventually(t, "the process is replaced", func() bool { return b.Stats().Recycles[reason] == 1 })
			if b.loads.Load() != loads+2 {
				t.Errorf("the successor has loaded %d bundles", b.loads.Load()-loads)
			}
			if b.which(t, one) == old || b.which(t, two) == old {
				t.Error("the old process still takes runs")
			}
			if b.loads.Load() != loads+2 {
				t.Error("a bundle was not ready")
			}
			select {
			case <-b.launched()[0].Done():
				t.Error("the old process did not wait for its run")
			default:
			}
			_ = end()
			<-b.launched()[0].Done()
			if s := b.Stats(); s.Crashes != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// However often a process is replaced under load, no run fails.
func TestReplacementUnderLoad(t *testing.T) {
	t.Parallel()
	b := setup(t, withSpare, func(c *engine.Config) { c.Runs = 50 })
	s := script(uuid.New(), "a")
	b.keep(s)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				if got, err := b.invoke(context.Background(), s, false, "echo hello"); err != nil || got != "hello" {
					t.Errorf("%q %v", got, err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	coretest.Eventually(t, "it was replaced ten times", func() bool { b.pass(0); return b.Stats().Recycles["runs"] >= 10 })
	close(stop)
	all.Wait()
}

// A run that computes does not hold up another of its app: that one finds, or gets, a process that does not.
func TestComputingRunsHoldNobodyUp(t *testing.T) {
	t.Parallel()
	b := setup(t, withSpare, func(c *engine.Config) { c.Idle = time.Minute })
	s := script(uuid.New(), "a")
	b.keep(s)
	b.awaitSpares(t, 1)
	spinning := b.which(t, s)
	end := b.background(t, s, "spin")
	coretest.Eventually(t, "another process answers", func() bool { return b.which(t, s) != spinning })
	if n := len(b.launched()) - b.Stats().Spares["puppet"]; n > 3 { // a spare may be on its way
		t.Errorf("%d processes", n)
	}
	_ = end()
	coretest.Eventually(t, "the first one answers again", func() bool { return b.which(t, s) == spinning })
	b.pass(time.Minute)
	b.pass(time.Minute)
	if s := b.Stats(); s.IdleStops != 2 || s.Crashes != 0 {
		t.Errorf("%+v", s)
	}
}
