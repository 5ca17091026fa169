package engine_test

import (
	"slices"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/engine"
	"github.com/picloud/picloud/core/tenant"
	sdk "github.com/picloud/picloud/sdk/engine"
)

// one spare of each engine in use, and the last word of what there is to run.
func withSpare(c *engine.Config) { c.Spares = 1 }

// keep makes scripts all that there is.
func (b *bundle) keep(scripts ...*tenant.Script) {
	apps := map[uuid.UUID]*tenant.App{}
	var all []*tenant.App
	for _, s := range scripts {
		if apps[s.App] == nil {
			apps[s.App] = &tenant.App{ID: s.App, Slug: s.App.String()}
			all = append(all, apps[s.App])
		}
		apps[s.App].Scripts = append(apps[s.App].Scripts, *s)
	}
	b.Keep(tenant.NewSnapshot(1, all))
}

func (b *bundle) awaitSpares(t testing.TB, n int) {
	t.Helper()
	coretest.Eventually(t, "there are spares", func() bool { return b.Stats().Spares["puppet"] == n })
}

// A spare is there before it is needed, is replaced when it was taken, and goes when no script uses its engine.
func TestSpares(t *testing.T) {
	t.Parallel()
	b := setup(t, withSpare)
	first, second := script(uuid.New(), "a"), script(uuid.New(), "b")
	if n := len(b.launched()); n != 0 {
		t.Fatalf("%d processes before there is a script", n)
	}
	b.keep(first, second)
	b.awaitSpares(t, 1)
	for i, run := range []func() error{
		func() error { _, err := b.invoke(t.Context(), first, false, "echo"); return err },
		func() error { _, err := b.invoke(t.Context(), second, false, "echo"); return err },
		func() error { _, err := b.invoke(t.Context(), first, true, "echo"); return err },
		func() error { _, err := b.Check(t.Context(), "puppet", []sdk.Bundle{{Script: "fine"}}); return err },
	} {
		if err := run(); err != nil {
			t.Fatal(err)
		}
		b.awaitSpares(t, 1)
		if n := len(b.launched()); n != i+2 {
			t.Errorf("%d processes after %d takers", n, i+1)
		}
	}
	all := b.launched()
	b.keep(&tenant.Script{ID: first.ID, App: first.App, Name: "a", Engine: "other"}) // nothing of it is active
	<-all[len(all)-1].Done()
	b.awaitSpares(t, 0)
}

// A spare that has died is not taken, and is replaced.
func TestDeadSpare(t *testing.T) {
	t.Parallel()
	b := setup(t, withSpare)
	s := script(uuid.New(), "a")
	b.keep(s)
	b.awaitSpares(t, 1)
	dead := b.launched()[0]
	if err := syscall.Kill(dead.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-dead.Done()
	b.mustEcho(t, s)
	b.awaitSpares(t, 1)
	spare := b.launched()
	for _, p := range spare[1:] {
		_ = syscall.Kill(p.Pid(), syscall.SIGKILL)
		<-p.Done()
	}
	b.pass(0)
	b.awaitSpares(t, 1)
	if slices.Contains(b.launched()[:len(spare)], b.launched()[len(b.launched())-1]) {
		t.Error("nothing was started")
	}
}
