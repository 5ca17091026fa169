package tenant_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
)

// newApp makes an app with one script and the routes given as "METHOD host/pattern"; the host may be empty.
func newApp(slug string, domains []string, routes ...string) *tenant.App {
	app := &tenant.App{ID: uuid.New(), Slug: slug, Domains: domains}
	script := tenant.Script{ID: uuid.New(), App: app.ID, Name: "s", Version: 1}
	app.Scripts = []tenant.Script{script}
	for _, text := range routes {
		method, target, _ := strings.Cut(text, " ")
		host, pattern, _ := strings.Cut(target, "/")
		app.Routes = append(app.Routes, tenant.Route{
			ID: uuid.New(), App: app.ID, Script: script.ID, Method: method, Host: host, Pattern: "/" + pattern,
		})
	}
	return app
}

func describe(m tenant.Match) string {
	if m.Route == nil {
		return strings.TrimSpace("none " + strings.Join(m.Allow, ","))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s%s", m.Route.Method, m.Route.Host, m.Route.Pattern)
	for _, p := range m.Params {
		fmt.Fprintf(&b, " %s=%s", p.Name, p.Value)
	}
	if m.Rest != "" {
		fmt.Fprintf(&b, " rest=%s", m.Rest)
	}
	return b.String()
}

func TestMatch(t *testing.T) {
	t.Parallel()
	app := newApp(
		"a", []string{"*"},
		"GET /", "GET /users/{id}", "GET /users/me", "POST /users/me/{x}", "ANY /users/{name}/posts",
		"POST /only", "PUT /only", "GET /files/{path...}", "GET /files/{name}", "GET /slash/",
		"GET /both", "ANY /both", "HEAD /head", "GET /head", "GET /deep/a/b/c", "GET /deep/{x}/b/d", "GET /deep/{r...}",
		"GET api.example.com/both", "GET *.example.com/wild", "ANY /wild", "DELETE api.example.com/users/{id}",
	)
	s := tenant.NewSnapshot(7, []*tenant.App{app})
	for _, c := range []struct{ request, want string }{
		{"GET h/", "GET /"},
		{"GET h/users/7", "GET /users/{id} id=7"},
		{"GET h/users/me", "GET /users/me"},
		{"GET h/users/me/", "none"},
		{"GET h/users/", "none"},
		{"GET h/users", "none"},
		{"POST h/users/me/posts", "POST /users/me/{x} x=posts"},
		{"GET h/users/me/posts", "ANY /users/{name}/posts name=me"},
		{"GET h/only", "none POST,PUT"},
		{"PATCH h/users/me", "none GET,HEAD"},
		{"GET h/files/a", "GET /files/{name} name=a"},
		{"GET h/files/a/", "GET /files/{path...} rest=a/"},
		{"GET h/files/a/b//c", "GET /files/{path...} rest=a/b//c"},
		{"GET h/files/", "none"},
		{"GET h/files//a", "none"},
		{"GET h/slash/", "GET /slash/"},
		{"GET h/slash", "none"},
		{"GET h/both", "GET /both"},
		{"POST h/both", "ANY /both"},
		{"HEAD h/both", "GET /both"},
		{"HEAD h/head", "HEAD /head"},
		{"GET h/deep/a/b/c", "GET /deep/a/b/c"},
		{"GET h/deep/a/b/d", "GET /deep/{x}/b/d x=a"},
		{"GET h/deep/a/b/e", "GET /deep/{r...} rest=a/b/e"},
		{"GET API.example.com:8080/both", "GET api.example.com/both"},
		{"GET x.example.com/both", "GET /both"},
		{"GET a.b.example.com/wild", "GET *.example.com/wild"},
		{"POST api.example.com/wild", "ANY /wild"},
		{"GET api.example.com/users/9", "GET /users/{id} id=9"},
		{"POST api.example.com/users/9", "none DELETE,GET,HEAD"},
		{"GET h/.picloud/results/x", "none"},
	} {
		method, target, _ := strings.Cut(c.request, " ")
		host, path, _ := strings.Cut(target, "/")
		if got := describe(s.Match(app, host, method, "/"+path)); got != c.want {
			t.Errorf("%s: %s; want %s", c.request, got, c.want)
		}
	}
	for _, path := range []string{"", "*", "users/7"} {
		if m := s.Match(app, "h", "GET", path); m.Route != nil || m.Allow != nil {
			t.Errorf("path %q matches %s", path, describe(m))
		}
	}
}

func TestSnapshotLookups(t *testing.T) {
	t.Parallel()
	one := newApp("one", []string{"one.example", "*.deep.example", "::1"}, "GET /")
	two := newApp("two", []string{"*.example", "a.deep.example"}, "GET /", "GET /{")
	two.Routes = append(two.Routes, tenant.Route{
		ID: uuid.New(), App: two.ID, Script: one.Scripts[0].ID, Method: "GET", Pattern: "/stolen",
	})
	s := tenant.NewSnapshot(3, []*tenant.App{one, two})
	for host, want := range map[string]*tenant.App{
		"one.example": one, "ONE.EXAMPLE:80": one, "x.deep.example": one, "x.y.deep.example": one, "[::1]:80": one,
		"deep.example": two, "a.deep.example": two, "other.example": two, "example": nil, ".example": nil, "localhost": nil, "": nil,
	} {
		if got := s.AppForHost(host); got != want {
			t.Errorf("AppForHost(%q) = %v", host, got)
		}
	}
	if s.Version != 3 || s.App(one.ID) != one || s.App(uuid.New()) != nil {
		t.Error("an app is not found by its id")
	}
	if s.Script(one.Scripts[0].ID).Name != "s" || s.Route(two.Routes[0].ID).Pattern != "/" {
		t.Error("a script or route is not found by its id")
	}
	if s.Route(two.Routes[1].ID) != nil || s.Route(two.Routes[2].ID) != nil {
		t.Error("a route that cannot be served is in the snapshot")
	}
	if m := s.Match(two, "other.example", "GET", "/stolen"); m.Route != nil {
		t.Error("a route leads to another app's script")
	}
	three := newApp("three", []string{"*"})
	if got := tenant.NewSnapshot(1, []*tenant.App{one, three}).AppForHost("nobody.test"); got != three {
		t.Errorf("the catch-all claim gives %v", got)
	}
}

// TestMatchModel compares the tree with a list of all routes, each tried segment by segment and ranked.
func TestMatchModel(t *testing.T) {
	t.Parallel()
	word := rapid.SampledFrom([]string{"a", "b", "c"})
	rapid.Check(t, func(t *rapid.T) {
		routes := make(map[string]string) // by what must be unique
		for i := range rapid.IntRange(1, 12).Draw(t, "routes") {
			var pattern strings.Builder
			depth := rapid.IntRange(1, 4).Draw(t, "depth")
			for d := range depth {
				switch kind := rapid.IntRange(0, 7).Draw(t, "kind"); {
				case kind < 4:
					pattern.WriteString("/" + word.Draw(t, "literal"))
				case kind < 6:
					fmt.Fprintf(&pattern, "/{p%d}", d)
				case d == depth-1 && kind == 6:
					pattern.WriteString("/")
				case d == depth-1:
					fmt.Fprintf(&pattern, "/{r%d...}", i)
				default:
					pattern.WriteString("/a")
				}
			}
			method := rapid.SampledFrom([]string{"GET", "POST", "HEAD", "ANY"}).Draw(t, "method")
			p, err := tenant.ParsePattern(pattern.String())
			if err != nil {
				t.Fatal(err)
			}
			routes[method+" "+p.Shape()] = method + " " + pattern.String()
		}
		app := newApp("m", nil, slices.Sorted(maps.Values(routes))...)
		s := tenant.NewSnapshot(1, []*tenant.App{app})
		for range 8 {
			method := rapid.SampledFrom([]string{"GET", "POST", "HEAD", "PUT"}).Draw(t, "request method")
			path := "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d", ""}), 1, 5).Draw(t, "path"), "/")
			got := describe(s.Match(app, "h", method, path))
			if want := describe(modelMatch(app, method, path)); got != want {
				t.Fatalf("%s %s among %v: %s; the model says %s", method, path, slices.Sorted(maps.Values(routes)), got, want)
			}
		}
	})
}

func modelMatch(app *tenant.App, method, path string) tenant.Match {
	var best tenant.Match
	bestRank := ""
	allow := make(map[string]bool)
	for i := range app.Routes {
		route := &app.Routes[i]
		m, rank, ok := modelTry(route, path)
		if !ok {
			continue
		}
		switch {
		case route.Method == method:
			rank += "0"
		case route.Method == "GET" && method == "HEAD":
			rank += "1"
		case route.Method == "ANY":
			rank += "2"
		default:
			allow[route.Method] = true
			if route.Method == "GET" {
				allow["HEAD"] = true
			}
			continue
		}
		if bestRank == "" || rank < bestRank {
			best, bestRank = m, rank
		}
	}
	if bestRank == "" {
		best.Allow = slices.Sorted(maps.Keys(allow))
	}
	return best
}

// modelTry ranks a matching route by one letter a segment, so that a smaller string is more specific from the left.
func modelTry(route *tenant.Route, path string) (m tenant.Match, rank string, ok bool) {
	m.Route = route
	have := strings.Split(path[1:], "/")
	for i, part := range strings.Split(route.Pattern[1:], "/") {
		if i >= len(have) {
			return m, "", false
		}
		name := strings.Trim(part, "{}.")
		switch {
		case strings.HasSuffix(part, "...}"):
			m.Rest = strings.Join(have[i:], "/")
			return m, rank + "c", have[i] != ""
		case strings.HasPrefix(part, "{"):
			if have[i] == "" {
				return m, "", false
			}
			m.Params = append(m.Params, event.Param{Name: name, Value: have[i]})
			rank += "b"
		case part != have[i]:
			return m, "", false
		default:
			rank += "a"
		}
	}
	return m, rank, len(have) == strings.Count(route.Pattern, "/")
}

func TestMatchAllocations(t *testing.T) {
	app := newApp("a", []string{"localhost"}, "GET /hello", "GET /users/{id}/posts/{post}")
	s := tenant.NewSnapshot(1, []*tenant.App{app})
	for path, most := range map[string]float64{"/hello": 0, "/users/1/posts/2": 1, "/missing": 0} {
		got := testing.AllocsPerRun(100, func() {
			s.Match(s.AppForHost("localhost:8080"), "localhost:8080", "GET", path)
		})
		if got > most {
			t.Errorf("%s costs %.0f allocations; want at most %.0f", path, got, most)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	app := newApp("a", []string{"localhost"}, "GET /hello", "GET /users/{id}/posts/{post}", "GET /files/{path...}")
	s := tenant.NewSnapshot(1, []*tenant.App{app})
	for _, path := range []string{"/hello", "/users/1/posts/2", "/files/a/b/c"} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Match(s.AppForHost("localhost:8080"), "localhost:8080", "GET", path)
			}
		})
	}
}

func TestVersionHash(t *testing.T) {
	t.Parallel()
	file := func(name, data string) engine.File { return engine.File{Name: name, Data: []byte(data)} }
	seen := make(map[string]int)
	for i, h := range []string{
		tenant.VersionHash(nil, "1.0", engine.Limits{}),
		tenant.VersionHash([]engine.File{file("a", "b")}, "1.0", engine.Limits{}),
		tenant.VersionHash([]engine.File{file("a", "b")}, "1.1", engine.Limits{}),
		tenant.VersionHash([]engine.File{file("a", "b")}, "1.0", engine.Limits{Pool: 1}),
		tenant.VersionHash([]engine.File{file("a", "b")}, "1.0", engine.Limits{LogLines: 1}),
		tenant.VersionHash([]engine.File{file("ab", "")}, "1.0", engine.Limits{}),
		tenant.VersionHash([]engine.File{file("a", "b"), file("c", "d")}, "1.0", engine.Limits{}),
		tenant.VersionHash([]engine.File{file("c", "d"), file("a", "b")}, "1.0", engine.Limits{}),
		tenant.VersionHash([]engine.File{file("a", "bcd")}, "1.0", engine.Limits{}),
		tenant.VersionHash(nil, "1.0", engine.Limits{Memory: 1}),
		tenant.VersionHash(nil, "1.0", engine.Limits{CPU: 1}),
		tenant.VersionHash(nil, "1.0", engine.Limits{Goroutines: 1}),
	} {
		if j, ok := seen[h]; ok || len(h) != 64 {
			t.Errorf("bundles %d and %d have the hash %s", i, j, h)
		}
		seen[h] = i
	}
}
