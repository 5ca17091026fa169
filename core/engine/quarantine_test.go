package engine_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/engine"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

func threeLosses(c *engine.Config) { c.Losses = 3 }

// kill runs the script so that it ends its process, and returns what its caller is told.
func (b *bundle) kill(t *testing.T, s *tenant.Script, lone bool) *fault.Fault {
	t.Helper()
	_, err := b.invoke(t.Context(), s, lone, "exit")
	if err == nil {
		t.Fatal("it did not end its process")
	}
	return fault.From(err)
}

// condemn has a version proven guilty until it is refused.
func (b *bundle) condemn(t *testing.T, s *tenant.Script) {
	t.Helper()
	for range 3 {
		if f := b.kill(t, s, true); f.Kind != fault.EngineLost {
			t.Fatal(f)
		}
	}
	if len(b.Quarantined()) == 0 {
		t.Fatal("it is not in quarantine")
	}
}

// A version that ends its processes is refused, with all that its owner needs to know; another version is not.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	b := setup(t, threeLosses)
	s := script(uuid.New(), "orders")
	s.Version = 7
	other := script(s.App, "other")
	b.condemn(t, s)
	_, err := b.invoke(t.Context(), s, false, "echo")
	f := fault.From(err)
	if f.Kind != fault.Unavailable || f.Origin != fault.Script || f.RetryAfter != time.Minute {
		t.Fatalf("%+v", f)
	}
	for _, says := range []string{`version 7 of the script "orders"`, "3 times", "status 3", " UTC", "deploy a version"} {
		if !strings.Contains(f.Message, says) {
			t.Errorf("%q does not say %q", f.Message, says)
		}
	}
	q := b.Quarantined()
	if len(q) != 1 || q[0].App != s.App || q[0].Version != 7 || q[0].Losses != 3 || q[0].Until.Sub(q[0].Since) != time.Minute {
		t.Errorf("%+v", q)
	}
	b.mustEcho(t, other)
	next := *s
	next.Version, next.Hash = 8, "orders8"
	b.mustEcho(t, &next)
	b.keep(&next, other)
	if q := b.Quarantined(); len(q) != 0 {
		t.Errorf("a version that is not active is still listed: %+v", q)
	}
}

// After the pause one run is tried. One that dies doubles the pause, up to an hour; one that lives ends the quarantine.
func TestTrial(t *testing.T) {
	t.Parallel()
	b := setup(t, threeLosses)
	s := script(uuid.New(), "a")
	b.condemn(t, s)
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		if q := b.Quarantined()[0]; q.Until.Sub(b.now()) != pause*time.Minute {
			t.Fatalf("it is in quarantine for %s instead of %dm", q.Until.Sub(b.now()), pause)
		}
		b.pass(pause*time.Minute - time.Second)
		if f := b.kill(t, s, false); f.Kind != fault.Unavailable {
			t.Fatalf("it ran too soon: %v", f)
		}
		b.pass(time.Second)
		if f := b.kill(t, s, false); f.Kind != fault.EngineLost {
			t.Fatalf("it was not tried: %v", f)
		}
	}
	b.pass(time.Hour)
	end := b.background(t, s, "wait")
	if _, err := b.invoke(t.Context(), s, false, "echo"); fault.From(err).Kind != fault.Unavailable {
		t.Errorf("two trials at one time: %v", err)
	}
	if _ = end(); len(b.Quarantined()) != 1 {
		t.Error("a trial that was given up has proven something")
	}
	b.mustEcho(t, s)
	if q := b.Quarantined(); len(q) != 0 {
		t.Errorf("%+v", q)
	}
	b.condemn(t, s)
	if q := b.Quarantined()[0]; q.Until.Sub(b.now()) != time.Hour {
		t.Errorf("the next quarantine is of %s", q.Until.Sub(b.now()))
	}
}

// An event that ends each process is a matter of its own: the version goes on.
func TestOneEventIsNoReason(t *testing.T) {
	t.Parallel()
	b := setup(t, threeLosses)
	s := script(uuid.New(), "a")
	for range 5 {
		if err := b.invokeAs(t.Context(), "same", s, "exit"); fault.From(err).Kind != fault.EngineLost {
			t.Fatal(err)
		}
	}
	b.mustEcho(t, s)
}

// Losses add up for ten minutes only.
func TestLossesAreForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t, threeLosses)
	s := script(uuid.New(), "a")
	for range 4 {
		b.kill(t, s, true)
		b.kill(t, s, true)
		b.pass(11 * time.Minute)
	}
	b.mustEcho(t, s)
}

// Of several scripts that ran in a process that died, the one that did it is found, and none of the others fails again.
func TestSuspects(t *testing.T) {
	t.Parallel()
	b := setup(t, threeLosses)
	app := uuid.New()
	guilty, innocent, absent := script(app, "guilty"), script(app, "innocent"), script(app, "absent")
	b.mustEcho(t, absent)
	b.pass(time.Second)
	shared := b.which(t, innocent)
	end := b.background(t, innocent, "wait")
	if f := b.kill(t, guilty, false); f.Kind != fault.EngineLost {
		t.Fatal(f)
	}
	if err := end(); fault.From(err).Kind != fault.EngineLost {
		t.Fatal(err)
	}
	own := b.which(t, innocent)
	if common := b.which(t, absent); own == shared || own == common {
		t.Errorf("a suspect is in %d, with others that are in %d", own, common)
	}
	end = b.background(t, innocent, "wait")
	for {
		f := b.kill(t, guilty, false)
		if f.Kind == fault.EngineLost {
			continue
		}
		if strings.Contains(f.Message, "quarantine") {
			break
		}
	}
	if err := end(); fault.From(err).Kind == fault.EngineLost {
		t.Errorf("another's process died with the guilty one's: %v", err)
	}
	// The first proof has cleared the innocent.
	if b.which(t, innocent) != b.which(t, absent) {
		t.Error("the innocent is still apart")
	}
	if s := b.Stats(); s.Quarantined != 1 || s.Crashes < 4 {
		t.Errorf("%+v", s)
	}
}

// A suspect that is never proven guilty is one of many again, after a while.
func TestSuspicionPasses(t *testing.T) {
	t.Parallel()
	b := setup(t, threeLosses)
	app := uuid.New()
	one, other := script(app, "one"), script(app, "other")
	b.mustEcho(t, other)
	b.pass(time.Second)
	b.kill(t, one, false)
	if b.which(t, one) == b.which(t, other) {
		t.Error("a suspect is with others")
	}
	b.pass(11 * time.Minute)
	if b.which(t, one) != b.which(t, other) {
		t.Error("a suspect is apart for ever")
	}
}

// A version whose Load ends the process costs the others of its app that one process, and no other.
func TestDeadlyLoad(t *testing.T) {
	t.Parallel()
	b := setup(t, threeLosses)
	app := uuid.New()
	deadly, other := script(app, "deadly"), script(app, "other")
	b.mustEcho(t, other)
	b.pass(time.Second)
	for {
		_, err := b.invoke(t.Context(), deadly, false, "echo")
		if f := fault.From(err); strings.Contains(f.Message, "quarantine") {
			break
		} else if f.Kind != fault.EngineLost && f.Kind != fault.Unavailable {
			t.Fatal(err)
		}
		b.mustEcho(t, other)
	}
	crashes := b.Stats().Crashes
	pid := b.which(t, other)
	_, _ = b.invoke(t.Context(), deadly, false, "echo")
	if b.which(t, other) != pid || b.Stats().Crashes != crashes {
		t.Error("it is loaded again and again")
	}
}

// What ran on while a version is loaded that takes long, goes on; so does what comes meanwhile.
func TestSlowLoad(t *testing.T) {
	t.Parallel()
	b := setup(t)
	app := uuid.New()
	slow, other := script(app, "slow"), script(app, "other")
	b.mustEcho(t, other)
	end := b.background(t, other, "wait")
	loads := b.loads.Load()
	ended := make(chan error, 1)
	go func() { _, err := b.invoke(t.Context(), slow, false, "echo"); ended <- err }()
	coretest.Eventually(t, "it is being loaded", func() bool { return b.loads.Load() > loads })
	b.mustEcho(t, other)
	if err := <-ended; fault.From(err).Kind != fault.Compile {
		t.Error(err)
	}
	if err := end(); fault.From(err).Kind == fault.EngineLost {
		t.Error(err)
	}
}

// How a process died is told in words that help.
func TestFate(t *testing.T) {
	t.Parallel()
	b := setup(t, threeLosses)
	s := script(uuid.New(), "a")
	for range 3 {
		if _, err := b.invoke(t.Context(), s, true, "crash"); fault.From(err).Kind != fault.EngineLost {
			t.Fatal(err)
		}
	}
	if how := b.Quarantined()[0].How; how != "it exited with status 2: panic: no luck" {
		t.Errorf("it died since %s", how)
	}
}
