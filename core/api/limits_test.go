package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
)

// What a script, its app and the node say of a run's limits comes together in its bundle, which is another with other limits.
func TestLimits(t *testing.T) {
	t.Parallel()
	s := newServer(t) // allows 200 MiB
	s.app(t, "shop")
	bound := func() (*tenant.Script, tenant.Limits) {
		m := appNamed(s.snapshot(t), "shop").Scripts[0]
		bundle, err := postgres.NewVersionStore(s.pool).Bundle(t.Context(), &m)
		if err != nil || bundle.Limits != m.Bounds.Engine() {
			t.Errorf("the bundle has %+v, %v", bundle.Limits, err)
		}
		return &m, m.Bounds
	}
	plain, limits := bound()
	if limits != tenant.DefaultLimits() || plain.Hash != plain.VersionHash {
		t.Errorf("where nobody says anything: %+v", limits)
	}

	var app api.App
	s.want(t, 200, "PUT", "/api/v1/app-limits/shop", object{"memory_bytes": 64 << 20, "calls": 7}, &app)
	if app.Limits != (api.Limits{MemoryBytes: 64 << 20, Calls: 7}) {
		t.Errorf("the app has %+v", app.Limits)
	}
	var script api.Script
	s.want(t, 200, "PATCH", "/api/v1/apps/shop/scripts/hello", object{"limits": object{"memory_bytes": 32 << 20, "cpu_ms": 1500}}, &script)
	limited, limits := bound()
	want := tenant.DefaultLimits()
	want.MemoryBytes, want.Calls, want.CPU = 32<<20, 7, retry.Duration(1500*time.Millisecond)
	if limits != want || limited.Hash == plain.Hash || script.Limits != (api.Limits{MemoryBytes: 32 << 20, CPUMS: 1500}) {
		t.Errorf("%+v, not %+v", limits, want)
	}

	for _, c := range []struct {
		method, path string
		in           object
		says         string
	}{
		{"PATCH", "/api/v1/apps/shop/scripts/hello", object{"limits": object{"memory_bytes": 65 << 20}}, "allowed here: 67108864"},
		{"PATCH", "/api/v1/apps/shop/scripts/hello", object{"limits": object{"calls": 8}}, "allowed here: 7"},
		{"PATCH", "/api/v1/apps/shop/scripts/hello", object{"limits": object{"memory_bytes": 1}}, "makes sense: 1048576"},
		{"PUT", "/api/v1/app-limits/shop", object{"memory_bytes": 201 << 20}, "allowed here: 209715200"},
	} {
		if p := s.problem(t, 422, c.method, c.path, c.in); len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Message, c.says) {
			t.Errorf("%v: %+v", c.in, p)
		}
	}
	s.problem(t, 404, "PUT", "/api/v1/app-limits/nobody", object{})

	// An app that is allowed less takes its scripts along.
	s.want(t, 200, "PUT", "/api/v1/app-limits/shop", object{"memory_bytes": 16 << 20}, nil)
	if _, limits := bound(); limits.MemoryBytes != 16<<20 {
		t.Errorf("%+v", limits)
	}
	s.want(t, 200, "PUT", "/api/v1/app-limits/shop", object{}, nil)
	s.want(t, 200, "PATCH", "/api/v1/apps/shop/scripts/hello", object{"limits": object{}}, nil)
	if again, limits := bound(); limits != tenant.DefaultLimits() || again.Hash != plain.Hash {
		t.Errorf("after all was taken back: %+v", limits)
	}
	// Limits of scripts belong to releases.
	var releases api.Page[api.Release]
	s.want(t, 200, "GET", "/api/v1/apps/shop/releases", nil, &releases)
	s.want(t, 200, "POST", "/api/v1/apps/shop/releases/2/activate", nil, nil)
	if again, limits := bound(); limits.MemoryBytes != 32<<20 || again.Hash == plain.Hash {
		t.Errorf("release 2 of %d had other limits than %+v", len(releases.Items), limits)
	}
}
