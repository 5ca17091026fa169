package failpoint_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/picloud/picloud/core/failpoint"
)

// TestMain lets the test binary be the process that a point kills.
func TestMain(m *testing.M) {
	if spec := os.Getenv("TEST_FAILPOINTS"); spec != "" {
		if err := failpoint.Enable(spec, 1); err != nil {
			panic(err)
		}
		failpoint.OnAct(func(name, action string) { println(name, action) })
		for range 3 {
			println("hit")
			failpoint.Hit(failpoint.OutboxClaimed)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestOffCostsNothing(t *testing.T) {
	failpoint.Reset()
	if n := testing.AllocsPerRun(100, func() { failpoint.Hit(failpoint.RunStarted) }); n != 0 {
		t.Errorf("a point that is off allocates %v times", n)
	}
}

func TestKill(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "TEST_FAILPOINTS=outbox.claimed=kill@2")
	var out bytes.Buffer
	cmd.Stderr = &out
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process ended with %v, want SIGKILL", err)
	}
	if want := "hit\nhit\noutbox.claimed kill\n"; out.String() != want {
		t.Errorf("it wrote %q, want %q", &out, want)
	}
}

func TestActions(t *testing.T) {
	t.Cleanup(failpoint.Reset)
	if err := failpoint.Enable("run.started=error@2;run.returned=panic;engine.picked=error@p0.5;gate.locked=sleep(1ms)", 7); err != nil {
		t.Fatal(err)
	}
	var errs []bool
	for range 3 {
		errs = append(errs, failpoint.Err(failpoint.RunStarted) != nil)
	}
	if errs[0] || !errs[1] || errs[2] {
		t.Errorf("error@2 gave %v, want it at the second hit only", errs)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("panic did not panic")
			}
		}()
		failpoint.Hit(failpoint.RunReturned)
	}()
	count := 0
	for range 1000 {
		if errors.Is(failpoint.Err(failpoint.EnginePicked), failpoint.ErrInjected) {
			count++
		}
	}
	if count < 400 || count > 600 {
		t.Errorf("@p0.5 acted at %d of 1000 hits", count)
	}
	failpoint.Hit(failpoint.GateLocked)
	if n := failpoint.Hits()[failpoint.GateLocked]; n != 1 {
		t.Errorf("one hit counted as %d", n)
	}
}

func TestEnableRefuses(t *testing.T) {
	for _, spec := range []string{"nowhere=kill", "run.started", "run.started=jump", "run.started=kill@x", "run.started=sleep(x)"} {
		if err := failpoint.Enable(spec, 1); err == nil {
			t.Errorf("%q was taken", spec)
		}
	}
}

func TestBlock(t *testing.T) {
	t.Cleanup(failpoint.Reset)
	reached, release := failpoint.Block(failpoint.FinishCommitted)
	passed := make(chan struct{})
	go func() {
		failpoint.Hit(failpoint.FinishCommitted)
		close(passed)
	}()
	<-reached
	select {
	case <-passed:
		t.Fatal("it passed a block")
	default:
	}
	release()
	<-passed
	release()
	failpoint.Hit(failpoint.FinishCommitted) // a released block holds nobody
}

func TestPause(t *testing.T) {
	t.Cleanup(failpoint.Reset)
	if err := failpoint.Enable("dead.committed=pause", 1); err != nil {
		t.Fatal(err)
	}
	acting := make(chan string, 1)
	failpoint.OnAct(func(name, action string) { acting <- name + " " + action })
	t.Cleanup(func() { failpoint.OnAct(nil) })
	passed := make(chan struct{})
	go func() {
		failpoint.Hit(failpoint.DeadCommitted)
		close(passed)
	}()
	if got := <-acting; got != "dead.committed pause" {
		t.Errorf("told %q", got)
	}
	failpoint.Release(failpoint.DeadCommitted)
	<-passed
}
