package postgres_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/picloud"
)

// workshop is an app whose scripts are saved as the control API does.
type workshop struct {
	*testing.T
	app      uuid.UUID
	pool     *pgxpool.Pool
	versions *postgres.VersionStore
	releases *postgres.ReleaseStore
}

func newWorkshop(t *testing.T) *workshop {
	t.Helper()
	pool := coretest.DB(t)
	app, err := postgres.NewAppStore(pool).Create(t.Context(), uuid.Nil, tenant.AppRecord{Slug: "a"})
	if err != nil {
		t.Fatal(err)
	}
	return &workshop{t, app.ID, pool, postgres.NewVersionStore(pool), postgres.NewReleaseStore(pool)}
}

// deployment is of a script whose text is its imports.
func (w *workshop) deployment(name, kind string, imports ...string) tenant.Deployment {
	slices.Sort(imports)
	files := []engine.File{{Name: name + ".go", Data: fmt.Append(nil, name, imports)}}
	return tenant.Deployment{Script: name, Kind: kind, Engine: "yaegi", Version: tenant.Version{
		Files: files, Hash: tenant.VersionHash(files, picloud.Version, engine.Limits{}), SDKVersion: picloud.Version, Imports: imports,
	}}
}

// compiled has the hashes of what a deployment makes, as things are now.
func (w *workshop) compiled(d *tenant.Deployment) []string {
	w.Helper()
	scripts := w.scripts()
	i := slices.IndexFunc(scripts, func(s tenant.Script) bool { return s.Name == d.Script })
	if i < 0 {
		scripts = append(scripts, tenant.Script{Name: d.Script, Kind: d.Kind, Engine: d.Engine})
		i = len(scripts) - 1
	}
	scripts[i].Version, scripts[i].VersionHash, scripts[i].Imports = 1, d.Version.Hash, d.Version.Imports
	_ = tenant.Link(scripts)
	var hashes []string
	for _, s := range tenant.Affected(scripts, d.Script) {
		hashes = append(hashes, s.Hash)
	}
	return hashes
}

func (w *workshop) scripts() []tenant.Script {
	w.Helper()
	scripts, err := w.versions.Scripts(w.Context(), w.app)
	if err != nil {
		w.Fatal(err)
	}
	return scripts
}

func (w *workshop) deploy(d tenant.Deployment) tenant.Deployed {
	w.Helper()
	d.Compiled = w.compiled(&d)
	made, err := w.releases.Deploy(w.Context(), uuid.Nil, w.app, d)
	if err != nil {
		w.Fatal(err)
	}
	return made
}

// Of saves that were checked at one time, each alone in order, those are stored that still make what was checked.
func TestModulesSavedTogether(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t)
	const n = 6
	name := func(i int) string { return fmt.Sprintf("m%d", i%n) }
	for i := range n {
		w.deploy(w.deployment(name(i), tenant.KindModule))
	}
	for round := range 10 {
		// Each would import the next: all of them together are a circle.
		errs := make([]error, n)
		saves := make([]tenant.Deployment, n)
		for i := range saves {
			saves[i] = w.deployment(name(i), tenant.KindModule, name(i+1))
			saves[i].Compiled = w.compiled(&saves[i])
		}
		var all sync.WaitGroup
		for i := range saves {
			all.Go(func() { _, errs[i] = w.releases.Deploy(t.Context(), uuid.Nil, w.app, saves[i]) })
		}
		all.Wait()
		scripts := w.scripts()
		if err := tenant.Link(scripts); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		stored := 0
		for i, err := range errs {
			var unlinked *tenant.Unlinked
			switch {
			case err == nil:
				stored++
			case !errors.Is(err, tenant.ErrStale) && !errors.As(err, &unlinked):
				t.Errorf("%s: %v", name(i), err)
			}
		}
		if stored == 0 || stored == n {
			t.Fatalf("round %d: %d of a circle of %d are stored", round, stored, n)
		}
		for i := range n {
			w.deploy(w.deployment(name(i), tenant.KindModule))
		}
	}
}

// An importer and the end of its module do not cross, whichever is first.
func TestImporterAndDeletionTogether(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t)
	scripts := postgres.NewScriptStore(w.pool)
	imported, deleted := 0, 0
	for range 20 {
		module := w.deploy(w.deployment("greet", tenant.KindModule))
		save := w.deployment("main", tenant.KindEndpoint, "greet")
		save.Compiled = w.compiled(&save)
		var saved, gone error
		var both sync.WaitGroup
		both.Go(func() { _, saved = w.releases.Deploy(t.Context(), uuid.Nil, w.app, save) })
		both.Go(func() { gone = scripts.Delete(t.Context(), uuid.Nil, w.app, module.Script.ID) })
		both.Wait()
		var conflict *tenant.Conflict
		var unlinked *tenant.Unlinked
		switch {
		case saved == nil && errors.As(gone, &conflict):
			imported++
			if conflict.Message != "the module is imported by: main" {
				t.Errorf("%v", gone)
			}
			w.deploy(w.deployment("main", tenant.KindEndpoint))
			if err := scripts.Delete(t.Context(), uuid.Nil, w.app, module.Script.ID); err != nil {
				t.Fatal(err)
			}
		case gone == nil && errors.As(saved, &unlinked):
			deleted++
		default:
			t.Fatalf("the importer: %v, the deletion: %v", saved, gone)
		}
	}
	t.Logf("%d imports and %d deletions were first", imported, deleted)
}

// A release brings back the bundles that it had, and what is loaded for them.
func TestReleaseRestoresBundles(t *testing.T) {
	t.Parallel()
	w := newWorkshop(t)
	w.deploy(w.deployment("text", tenant.KindModule))
	w.deploy(w.deployment("greet", tenant.KindModule, "text"))
	before := w.deploy(w.deployment("main", tenant.KindEndpoint, "greet"))
	main := func() tenant.Script {
		scripts := w.scripts()
		return scripts[slices.IndexFunc(scripts, func(s tenant.Script) bool { return s.Name == "main" })]
	}
	was := main()
	w.deploy(w.deployment("more", tenant.KindModule))
	w.deploy(w.deployment("text", tenant.KindModule, "more"))
	is := main()
	if is.Hash == was.Hash || len(is.Modules) != 3 {
		t.Fatalf("another module makes the bundle %+v of %+v", is, was)
	}
	if _, err := w.releases.Activate(t.Context(), uuid.Nil, w.app, before.Release); err != nil {
		t.Fatal(err)
	}
	back := main()
	if back.Hash != was.Hash || !slices.Equal(back.Modules, was.Modules) {
		t.Errorf("going back gives %+v, not %+v", back, was)
	}
	// A node that has not seen the change loads what it has seen.
	b, err := w.versions.Bundle(t.Context(), &is)
	if err != nil || b.Hash != is.Hash || len(b.Modules) != 3 || string(b.Modules[2].Files[0].Data) != "text[more]" {
		t.Errorf("%+v, %v", b, err)
	}
}
