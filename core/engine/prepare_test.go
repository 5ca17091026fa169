package engine_test

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/tenant"
)

// A new version is loaded beside the one before, whose calls go on, and its first call finds it loaded.
func TestPrepare(t *testing.T) {
	t.Parallel()
	b := setup(t)
	app := uuid.New()
	one, unused := script(app, "gated"), script(app, "unused")
	if text, err := b.invoke(t.Context(), one, false, "name x"); err != nil || text != one.Hash+" x" {
		t.Fatalf("%q, %v", text, err)
	}
	two, unusedTwo := *one, *unused
	two.Hash, unusedTwo.Hash = "another", "unused too"
	next := tenant.NewSnapshot(2, []*tenant.App{{ID: app, Slug: "a", Scripts: []tenant.Script{two, unusedTwo}}})

	b.gate = make(chan struct{})
	loads := b.loads.Load()
	prepared := make(chan struct{})
	go func() { b.Prepare(t.Context(), next); close(prepared) }()
	coretest.Eventually(t, "the new version is being loaded", func() bool { return b.loads.Load() > loads })
	if text, err := b.invoke(t.Context(), one, false, "name x"); err != nil || text != one.Hash+" x" {
		t.Errorf("meanwhile: %q, %v", text, err)
	}
	close(b.gate)
	<-prepared
	b.Keep(next)
	if text, err := b.invoke(t.Context(), &two, false, "name x"); err != nil || text != "another x" {
		t.Errorf("%q, %v", text, err)
	}
	if n := b.loads.Load(); n != loads+1 {
		t.Errorf("%d bundles were read, not one", n-loads)
	}
	given, cancel := context.WithCancel(t.Context())
	cancel()
	b.Prepare(given, tenant.NewSnapshot(3, []*tenant.App{{ID: app, Slug: "a", Scripts: []tenant.Script{*one}}})) // returns
}
