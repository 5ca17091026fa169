package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/tenant"
)

// source is a deployment of a script of one file.
func source(script, kind, content string) object {
	d := object{"script": script, "files": []object{{"name": script + ".go", "content": content}}}
	if kind != "" {
		d["kind"] = kind
	}
	return d
}

const deployPath = "/api/v1/apps/a/deploy"

func TestModules(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	hash := func(name string) string {
		snapshot := s.snapshot(t)
		return snapshot.ScriptNamed(appNamed(snapshot, "a").ID, name).Hash
	}
	s.want(t, 200, "POST", deployPath, source("text", "module", "upper"), nil)
	s.want(t, 200, "POST", deployPath, source("greet", "module", "hi app/text use:upper"), nil)
	var made api.Deployed
	s.want(t, 200, "POST", deployPath, source("main", "", "app/greet use:hi"), &made)
	if !slices.Equal(made.Version.Imports, []string{"greet"}) || !slices.Equal(made.Script.Imports, []string{"greet"}) {
		t.Errorf("the importer is %+v", made)
	}
	var greet api.Script
	s.want(t, 200, "GET", "/api/v1/apps/a/scripts/greet", nil, &greet)
	if greet.Kind != "module" || !slices.Equal(greet.ImportedBy, []string{"main"}) || !slices.Equal(greet.Imports, []string{"text"}) {
		t.Errorf("the module is %+v", greet)
	}

	snapshot := s.snapshot(t)
	main := snapshot.ScriptNamed(appNamed(snapshot, "a").ID, "main")
	bundle, err := postgres.NewVersionStore(s.pool).Bundle(t.Context(), main)
	if err != nil || len(bundle.Modules) != 2 || bundle.Modules[0].Name != "greet" || string(bundle.Modules[1].Files[0].Data) != "upper" ||
		bundle.Hash != main.Hash {
		t.Errorf("the bundle is %+v, %v", bundle, err)
	}

	first, hello := hash("main"), hash("hello")
	s.want(t, 200, "POST", deployPath, source("text", "", "upper lower"), &made)
	second := hash("main")
	if second == first || hash("hello") != hello || made.Script.Kind != "module" {
		t.Error("a new version of a module makes no new bundle of what imports it, or makes one of what does not")
	}
	// What a node loads for the configuration that it has is that of then.
	if old, err := postgres.NewVersionStore(s.pool).Bundle(t.Context(), main); err != nil || string(old.Modules[1].Files[0].Data) != "upper" {
		t.Errorf("the bundle from before is %+v, %v", old, err)
	}

	// What breaks an importer is refused, with the place.
	p := s.problem(t, 422, "POST", deployPath, source("text", "", "lower"))
	if p.Type != "urn:picloud:problem:compile_error" || p.Errors[0].Location != "greet/greet.go:3:7" ||
		p.Errors[0].Message != "undefined: upper" || !strings.Contains(p.Detail, `this version of "text" would break "greet"`) {
		t.Errorf("breaking an importer gives %+v", p)
	}
	s.want(t, 201, "POST", "/api/v1/apps/a/scripts/text/versions", object{
		"files": []object{{"name": "text.go", "content": "lower"}}, "activate": false,
	}, nil)
	s.problem(t, 422, "POST", "/api/v1/apps/a/scripts/text/versions/3/activate", nil)
	if hash("main") != second {
		t.Error("what was refused changed the importer")
	}

	// A script that has nothing to do with modules is not compiled again.
	before := s.checked.Load()
	s.want(t, 200, "POST", "/api/v1/apps/a/scripts/hello/versions/1/activate", nil, nil)
	if n := s.checked.Load() - before; n != 0 {
		t.Errorf("activating what was compiled compiles %d bundles", n)
	}

	// Going back restores the bundles.
	s.want(t, 200, "POST", "/api/v1/apps/a/scripts/text/versions/1/activate", nil, nil)
	if hash("main") != first {
		t.Error("the first version again does not make the first bundle again")
	}
	s.want(t, 200, "POST", fmt.Sprintf("/api/v1/apps/a/releases/%d/activate", made.Release), nil, nil)
	if hash("main") != second {
		t.Error("activating a release does not restore its bundles")
	}

	for name, users := range map[string]string{"greet": "main", "text": "greet"} {
		if p := s.problem(t, 409, "DELETE", "/api/v1/apps/a/scripts/"+name, nil); !strings.HasSuffix(p.Detail, "imported by: "+users) {
			t.Errorf("deleting %s: %q", name, p.Detail)
		}
	}
	s.want(t, 204, "DELETE", "/api/v1/apps/a/scripts/main", nil, nil)
	s.want(t, 204, "DELETE", "/api/v1/apps/a/scripts/greet", nil, nil)
}

func TestModulesAreRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	s.want(t, 200, "POST", deployPath, source("one", "module", "x"), nil)
	s.want(t, 200, "POST", deployPath, source("two", "module", "app/one"), nil)
	star := object{"script": "rules", "kind": "module", "files": []object{{"name": "rules.star", "content": "x"}}}
	s.want(t, 200, "POST", deployPath, star, nil)
	for _, c := range []struct {
		deploy object
		status int
		want   string
	}{
		{source("one", "", "app/two"), 422, "import cycle: one imports two imports one"},
		{source("one", "", "app/one"), 422, "import cycle: one imports one"},
		{source("main", "", "app/gone"), 422, `imports the module "gone", which is not there; modules of the engine yaegi: one, two`},
		{source("main", "", "app/hello"), 422, `imports "hello", which is an endpoint`},
		{source("main", "", "app/rules"), 422, `imports the module "rules" of the engine starlark, but runs on the engine yaegi`},
		{source("one", "endpoint", "x"), 409, `the script "one" is of kind module; a script keeps its kind`},
		{source("hello", "module", "x"), 409, `the script "hello" is of kind endpoint; a script keeps its kind`},
	} {
		if p := s.problem(t, c.status, "POST", deployPath, c.deploy); !strings.Contains(p.Detail, c.want) {
			t.Errorf("%v: %+v; want %q", c.deploy, p, c.want)
		}
	}
	for i := range tenant.MaxModuleDepth {
		below := "app/two"
		if i > 0 {
			below = fmt.Sprintf("app/m%d", i)
		}
		r := s.do(t, "POST", deployPath, source(fmt.Sprintf("m%d", i+1), "module", below))
		if want := map[bool]int{true: 200, false: 422}[i+2 <= tenant.MaxModuleDepth]; r.status != want {
			t.Errorf("with %d modules below it: %d %s", i+2, r.status, r.body)
		}
	}

	// A module is nothing's target.
	withRoute := source("one", "", "x")
	withRoute["routes"] = []object{{"pattern": "/x"}}
	if p := s.problem(t, 422, "POST", deployPath, withRoute); !strings.Contains(p.Detail, "no route leads to it") {
		t.Errorf("deploying a module with a route: %q", p.Detail)
	}
	s.want(t, 201, "POST", "/api/v1/apps/a/queues", object{"name": "q", "script": "hello"}, nil)
	if p := s.problem(t, 409, "POST", "/api/v1/apps/a/scripts/one/invoke", object{}); !strings.Contains(p.Detail, "is a module") {
		t.Errorf("calling a module: %q", p.Detail)
	}
	for path, body := range map[string]object{
		"POST routes":    {"pattern": "/y", "script": "one"},
		"POST queues":    {"name": "r", "script": "one"},
		"PATCH queues/q": {"script": "one"},
		"POST triggers":  {"name": "t", "kind": "dead_letter", "script": "one"},
	} {
		method, path, _ := strings.Cut(path, " ")
		if p := s.problem(t, 422, method, "/api/v1/apps/a/"+path, body); !strings.Contains(p.Detail, "a module cannot be called") {
			t.Errorf("%s: %q", path, p.Detail)
		}
	}
}

// However saves fall together, no cycle comes of them, and no importer is without what it imports.
func TestModulesSavedTogether(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	const modules = 4
	for i := range modules {
		s.want(t, 200, "POST", deployPath, source(fmt.Sprintf("m%d", i), "module", fmt.Sprintf("def%d", i)), nil)
	}
	// Each imports the next, which would be a circle; and each loses what the one before it needs.
	for range 5 {
		var all sync.WaitGroup
		for i := range modules {
			next := (i + 1) % modules
			all.Go(func() {
				s.do(t, "POST", deployPath, source(fmt.Sprintf("m%d", i), "module", fmt.Sprintf("def%d app/m%d use:def%d", i, next, next)))
			})
			all.Go(func() { s.do(t, "POST", deployPath, source(fmt.Sprintf("m%d", i), "module", "nothing")) })
			all.Go(func() { s.do(t, "DELETE", fmt.Sprintf("/api/v1/apps/a/scripts/m%d", i), nil) })
			all.Go(func() { s.do(t, "POST", deployPath, source(fmt.Sprintf("m%d", i), "module", fmt.Sprintf("def%d", i))) })
		}
		all.Wait()
		snapshot := s.snapshot(t)
		app := appNamed(snapshot, "a")
		if err := tenant.Link(app.Scripts); err != nil {
			t.Fatal(err)
		}
		for i := range app.Scripts {
			x := &app.Scripts[i]
			if x.Version == 0 {
				continue
			}
			b, err := postgres.NewVersionStore(s.pool).Bundle(t.Context(), x)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := check(b); err != nil {
				t.Fatalf("%s is active and does not compile: %v", x.Name, err)
			}
		}
	}
}

// What was compiled with one version of a module is not saved with another.
func TestStaleCheckIsRepeated(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	s.want(t, 200, "POST", deployPath, source("greet", "module", "hi"), nil)
	var main api.Deployed
	s.want(t, 200, "POST", deployPath, source("main", "", "app/greet use:hi"), &main)
	versions := postgres.NewVersionStore(s.pool)
	snapshot := s.snapshot(t)
	app := appNamed(snapshot, "a").ID
	script := snapshot.ScriptNamed(app, "main")
	if err := versions.Activate(t.Context(), app, app, script.ID, 1, []string{script.Hash}); err != nil {
		t.Errorf("activating what was compiled: %v", err)
	}
	s.want(t, http.StatusOK, "POST", deployPath, source("greet", "", "hi ho"), nil)
	if err := versions.Activate(t.Context(), app, app, script.ID, 1, []string{script.Hash}); err != tenant.ErrStale {
		t.Errorf("activating what was compiled with another module: %v", err)
	}
	greet := snapshot.ScriptNamed(app, "greet")
	if err := versions.Activate(t.Context(), app, app, greet.ID, 1, nil); err != tenant.ErrStale {
		t.Errorf("activating a module with which nothing was compiled: %v", err)
	}
}
