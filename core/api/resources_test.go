package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/auth"
	coreengine "github.com/picloud/picloud/core/engine"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/tenant"
)

func (s *server) snapshot(t *testing.T) *tenant.Snapshot {
	t.Helper()
	snapshot, err := postgres.NewSnapshotStore(s.pool, tenant.MaxLimits()).Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

func appNamed(s *tenant.Snapshot, slug string) *tenant.App {
	for app := range s.Apps() {
		if app.Slug == slug {
			return app
		}
	}
	return nil
}

func (s *server) count(t *testing.T, sql string, args ...any) (n int) {
	t.Helper()
	if err := s.pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDeployReachesTheSnapshot(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	before := s.snapshot(t).Version
	script, route := s.app(t, "shop")
	now := s.snapshot(t)
	app := now.AppForHost("shop.example.com:8080")
	if app == nil || app.Slug != "shop" || app.Release != 1 || now.Version != before+3 || s.changes.Load() != 3 {
		t.Fatalf("after three changes of version %d the snapshot %d has %+v", before, now.Version, app)
	}
	m := now.Match(app, "shop.example.com", "GET", "/hello/ada")
	if m.Route == nil || m.Route.ID.String() != route.ID || m.Script.ID.String() != script.ID || m.Params[0].Value != "ada" {
		t.Fatalf("the request goes to %+v", m)
	}
	if m.Script.Version != 1 || m.Script.Hash == "" || m.Script.Timeout.Seconds() != 30 || m.Script.MaxAttempts != 5 {
		t.Errorf("the script is %+v", m.Script)
	}
	bundle, err := postgres.NewVersionStore(s.pool).Bundle(t.Context(), m.Script)
	if err != nil || bundle.Hash != m.Script.Hash || string(bundle.Files[0].Data) != "package main" {
		t.Errorf("the bundle is %+v, %v", bundle, err)
	}
	if n := s.count(t, "SELECT count(*) FROM audit_log WHERE app = $1 AND actor IS NOT NULL", app.ID); n != 3 {
		t.Errorf("three changes left %d rows in the audit log", n)
	}

	var again api.Deployed
	s.want(t, 200, "POST", "/api/v1/apps/shop/deploy", object{
		"script": "hello", "files": []object{{"name": "main.go", "content": "package main // two"}}, "timeout_ms": 1000,
		"routes": []object{{"method": "GET", "pattern": "/hello/{who}", "mode": "async"}},
	}, &again)
	if again.Script.ID != script.ID || again.Version.Number != 2 || again.Release != 2 || again.Script.TimeoutMS != 1000 ||
		again.Script.MaxAttempts != 5 || again.Routes[0].ID != route.ID || again.Routes[0].Pattern != "/hello/{who}" ||
		again.Routes[0].Mode != "async" {
		t.Errorf("the second deployment made %+v", again)
	}
	p := s.problem(t, 409, "POST", "/api/v1/apps/shop/deploy", object{
		"script": "other", "files": []object{{"name": "main.go", "content": "package main"}},
		"routes": []object{{"method": "GET", "pattern": "/hello/{x}"}},
	})
	if !strings.Contains(p.Detail, "/hello/{who}") || p.Errors[0].Value != route.ID {
		t.Errorf("the conflict is %+v", p)
	}
	s.problem(t, 404, "GET", "/api/v1/apps/shop/scripts/other", nil) // all or nothing
}

func TestVersionsAndReleases(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	upload := func(content string, activate bool) (v api.Version) {
		s.want(t, 201, "POST", "/api/v1/apps/a/scripts/hello/versions", object{
			"files": []object{{"name": "main.go", "content": content}}, "activate": activate, "note": "why",
		}, &v)
		return v
	}
	active := func() (script api.Script) {
		s.want(t, 200, "GET", "/api/v1/apps/a/scripts/hello", nil, &script)
		return script
	}
	if v := upload("two", false); v.Number != 2 || active().ActiveVersion != 1 {
		t.Errorf("version %d without activation leaves %d active", v.Number, active().ActiveVersion)
	}
	if v := upload("three", true); v.Number != 3 || active().ActiveVersion != 3 {
		t.Errorf("version %d with activation leaves %d active", v.Number, active().ActiveVersion)
	}
	s.want(t, 200, "POST", "/api/v1/apps/a/scripts/hello/versions/2/activate", nil, nil)
	s.problem(t, 404, "POST", "/api/v1/apps/a/scripts/hello/versions/9/activate", nil)
	var withFiles api.VersionWithFiles
	s.want(t, 200, "GET", "/api/v1/apps/a/scripts/hello/versions/2", nil, &withFiles)
	if *withFiles.Files[0].Content != "two" || withFiles.Note != "why" || withFiles.CreatedBy == "" {
		t.Errorf("version 2 is %+v", withFiles)
	}

	binary := []byte("\x00asm\xff")
	s.want(t, 201, "POST", "/api/v1/apps/a/scripts/hello/versions", object{
		"files": []object{{"name": "main.go", "content_base64": binary}, {"name": "nul.txt", "content_base64": []byte("a\x00")}}, "activate": false,
	}, nil)
	var compiled api.VersionWithFiles
	s.want(t, 200, "GET", "/api/v1/apps/a/scripts/hello/versions/4", nil, &compiled)
	if f := compiled.Files; f[0].Content != nil || !bytes.Equal(f[0].ContentBase64, binary) || string(f[1].ContentBase64) != "a\x00" {
		t.Errorf("version 4 is %+v", compiled)
	}

	s.want(t, 201, "POST", "/api/v1/apps/a/routes", object{"pattern": "/later", "script": "hello"}, nil)
	s.want(t, 201, "POST", "/api/v1/apps/a/scripts", object{"name": "newer"}, nil)
	s.want(t, 201, "POST", "/api/v1/apps/a/scripts/newer/versions", object{
		"files": []object{{"name": "main.go", "content": "x"}},
	}, nil)
	var back api.ReleaseWithManifest
	s.want(t, 200, "POST", "/api/v1/apps/a/releases/1/activate", nil, &back)
	if back.Number != 6 || len(back.Manifest.Routes) != 1 || active().ActiveVersion != 1 {
		t.Errorf("going back makes %+v with version %d", back, active().ActiveVersion)
	}
	snapshot := s.snapshot(t)
	app := appNamed(snapshot, "a")
	if m := snapshot.Match(app, "", "GET", "/later"); m.Route != nil || app.Release != 6 {
		t.Error("the route that came later answers")
	}
	for _, script := range app.Scripts {
		if want := map[string]int{"hello": 1, "newer": 0}[script.Name]; script.Version != want {
			t.Errorf("%s runs version %d", script.Name, script.Version)
		}
	}
	s.want(t, 200, "POST", "/api/v1/apps/a/releases/5/activate", nil, nil)
	if m := s.snapshot(t).Match(app, "", "GET", "/later"); m.Route == nil {
		t.Error("the route did not come back")
	}
	s.problem(t, 404, "POST", "/api/v1/apps/a/releases/99/activate", nil)
	s.want(t, 204, "DELETE", "/api/v1/apps/a/scripts/newer", nil, nil)
	if p := s.problem(t, 409, "POST", "/api/v1/apps/a/releases/5/activate", nil); !strings.Contains(p.Detail, "newer") {
		t.Errorf("activating a release without its script gives %q", p.Detail)
	}
	var list api.Page[api.Release]
	s.want(t, 200, "GET", "/api/v1/apps/a/releases", nil, &list)
	if n := list.Items[0].Number; n != 8 || len(list.Items) != 8 || list.Items[0].Action != "script.delete" {
		t.Errorf("the releases are %+v", list.Items)
	}
}

func TestSourceIsChecked(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	deploy := func(status int, files ...object) api.Problem {
		return s.problem(t, status, "POST", "/api/v1/apps/a/deploy", object{"script": "x", "files": files})
	}
	p := deploy(422, object{"name": "main.go", "content": "syntax error"})
	if p.Type != "urn:picloud:problem:compile_error" || p.Errors[0].Location != "main.go:3:7" || p.Errors[0].Message != "expected ';'" {
		t.Errorf("a compile error is %+v", p)
	}
	if p := deploy(422, object{"name": "main.py", "content": ""}); !strings.Contains(p.Detail, "yaegi (.go)") {
		t.Errorf("an unknown extension gives %q", p.Detail)
	}
	for _, name := range []string{"../main.go", "/main.go", "a//main.go", `a\main.go`, "."} {
		if p := deploy(422, object{"name": name, "content": ""}); p.Type != "urn:picloud:problem:invalid" {
			t.Errorf("the file name %q gives %+v", name, p)
		}
	}
	deploy(422, object{"name": "main.go", "content": ""}, object{"name": "main.go", "content": ""})
	deploy(413, object{"name": "main.go", "content": strings.Repeat("x", 2<<20+1)})
	deploy(413, object{"name": "main.go", "content": strings.Repeat("x", 5<<20)})
	deploy(413, object{"name": "main.wasm", "content_base64": make([]byte, 12<<20+1)})
	deploy(422, object{"name": "main.go"})
	deploy(422, object{"name": "main.go", "content": "", "content_base64": []byte("x")})
	if n := s.count(t, "SELECT count(*) FROM scripts"); n != 1 {
		t.Errorf("refused sources left %d scripts", n)
	}
}

func TestAppsAndDomains(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "one")
	s.app(t, "two")
	s.problem(t, 409, "POST", "/api/v1/apps", object{"slug": "one"})
	s.problem(t, 422, "POST", "/api/v1/apps", object{"slug": "One"})
	s.problem(t, 409, "PATCH", "/api/v1/apps/one", object{"slug": "two"})
	var app api.App
	s.want(t, 200, "PATCH", "/api/v1/apps/one", object{"slug": "uno", "name": "Número uno"}, &app)
	s.problem(t, 404, "GET", "/api/v1/apps/one", nil)
	var byID api.App
	s.want(t, 200, "GET", "/api/v1/apps/"+app.ID, nil, &byID)
	if byID != app || app.Name != "Número uno" || app.Release != 1 || app.CreatedAt.Location().String() != "UTC" {
		t.Errorf("by id the app is %+v, by slug %+v", byID, app)
	}
	s.problem(t, 422, "PUT", "/api/v1/app-weights/uno", object{"weight": 0})
	s.want(t, 200, "PUT", "/api/v1/app-weights/uno", object{"weight": 4}, &app)
	snapshot := s.snapshot(t)
	if lane := snapshot.Lane(appNamed(snapshot, "uno").Scripts[0].ID); app.Weight != 4 || lane.Weight != 4 {
		t.Errorf("the app weighs %d, its lane %d", app.Weight, lane.Weight)
	}

	s.problem(t, 409, "POST", "/api/v1/apps/two/domains", object{"host": "ONE.example.com."})
	s.problem(t, 422, "POST", "/api/v1/apps/two/domains", object{"host": "http://x"})
	for _, host := range []string{"[::1]", "*.wild.example.com", "*"} {
		s.want(t, 201, "POST", "/api/v1/apps/two/domains", object{"host": host}, nil)
	}
	for host, want := range map[string]string{"[::1]:8080": "two", "a.wild.example.com": "two", "elsewhere": "two", "one.example.com": "uno"} {
		if got := s.snapshot(t).AppForHost(host); got == nil || got.Slug != want {
			t.Errorf("%s goes to %v", host, got)
		}
	}
	s.want(t, 204, "DELETE", "/api/v1/apps/two/domains/[::1]", nil, nil)
	s.problem(t, 404, "DELETE", "/api/v1/apps/two/domains/[::1]", nil)
	s.problem(t, 404, "DELETE", "/api/v1/apps/two/domains/one.example.com", nil)
	var domains api.Page[api.Domain]
	s.want(t, 200, "GET", "/api/v1/apps/two/domains", nil, &domains)
	if len(domains.Items) != 3 || domains.Items[0].Host != "*" {
		t.Errorf("the domains are %+v", domains)
	}
}

func TestDeletingAnApp(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	script, _ := s.app(t, "gone")
	s.app(t, "kept")
	app := appNamed(s.snapshot(t), "gone")
	kept := appNamed(s.snapshot(t), "kept")
	for state, app := range map[int]uuid.UUID{0: app.ID, 1: app.ID, 2: app.ID, 3: kept.ID} {
		if _, err := s.pool.Exec(t.Context(), `INSERT INTO outbox (id, event_id, app, lane, target, root_id, run_at, accepted_at,
			timeout_ms, kind, state, max_attempts, envelope) VALUES ($1, $1, $2, $3, $3, $1, now(), now(), 1, 1, $4, 5, '')`,
			uuid.New(), app, script.ID, state); err != nil {
			t.Fatal(err)
		}
	}
	s.want(t, 204, "DELETE", "/api/v1/apps/gone", nil, nil)
	s.problem(t, 404, "GET", "/api/v1/apps/gone", nil)
	s.problem(t, 404, "GET", "/api/v1/apps/"+app.ID.String()+"/scripts/hello", nil)
	s.problem(t, 404, "DELETE", "/api/v1/apps/gone", nil)
	snapshot := s.snapshot(t)
	if snapshot.App(app.ID) != nil || snapshot.AppForHost("gone.example.com") != nil || len(snapshot.App(kept.ID).Scripts) != 1 {
		t.Error("the deleted app is in the snapshot, or another is not")
	}
	if n := s.count(t, "SELECT count(*) FROM outbox WHERE app = $1 AND state = 2", app.ID); n != 1 {
		t.Errorf("%d running entries are left", n)
	}
	if n := s.count(t, "SELECT count(*) FROM outbox"); n != 2 {
		t.Errorf("%d entries are left", n)
	}
	if n := s.count(t, "SELECT count(*) FROM executions WHERE app = $1 AND outcome = 4 AND reason = 'app_deleted'", app.ID); n != 2 {
		t.Errorf("%d entries were cancelled", n)
	}
	s.app(t, "gone") // slug and host are free
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	s.app(t, "b")
	create := func(in object) (r api.Route) {
		s.want(t, 201, "POST", "/api/v1/apps/a/routes", in, &r)
		return r
	}
	r := create(object{"pattern": "/users/{id}", "script": "hello"})
	if r.Method != "ANY" || r.Mode != "sync" || r.Script != "hello" {
		t.Errorf("the route is %+v", r)
	}
	p := s.problem(t, 409, "POST", "/api/v1/apps/a/routes", object{"pattern": "/users/{user}", "script": "hello"})
	if p.Errors[0].Value != r.ID {
		t.Errorf("the conflict is %+v", p)
	}
	create(object{"pattern": "/users/{user}", "method": "post", "script": "hello", "mode": "async"})
	create(object{"pattern": "/users/{user}", "host": "a.example.com", "script": "hello"})
	s.want(t, 201, "POST", "/api/v1/apps/a/scripts", object{"name": "lib", "kind": "module"}, nil)
	for field, in := range map[string]object{
		"body.pattern": {"pattern": "/x{", "script": "hello"},
		"body.method":  {"pattern": "/x", "method": "A B", "script": "hello"},
		"body.host":    {"pattern": "/x", "host": "b.example.com", "script": "hello"},
		"body.script":  {"pattern": "/x", "script": "nobody"},
	} {
		if p := s.problem(t, 422, "POST", "/api/v1/apps/a/routes", in); p.Errors[0].Location != field {
			t.Errorf("a wrong %s gives %+v", field, p)
		}
	}
	s.problem(t, 422, "POST", "/api/v1/apps/a/routes", object{"pattern": "/x", "script": "lib"})
	s.problem(t, 422, "POST", "/api/v1/apps/a/routes", object{"pattern": "/.picloud/x", "script": "hello"})

	var verdict api.RouteVerdict
	s.want(t, 200, "POST", "/api/v1/apps/a/routes/check", object{"pattern": "/users/{x}"}, &verdict)
	if verdict.OK || verdict.Conflict != r.ID {
		t.Errorf("check says %+v", verdict)
	}
	verdict = api.RouteVerdict{}
	s.want(t, 200, "POST", "/api/v1/apps/a/routes/check", object{"pattern": "/users/{x}/y"}, &verdict)
	if !verdict.OK || verdict.Conflict != "" {
		t.Errorf("check says %+v", verdict)
	}
	var m api.MatchAnswer
	s.want(t, 200, "POST", "/api/v1/apps/a/routes/match", object{"method": "get", "path": "/users/a%20b?x=1"}, &m)
	if m.RouteID != r.ID || m.Script != "hello" || !slices.Equal(m.Params, []api.Param{{Name: "id", Value: "a b"}}) {
		t.Errorf("match says %+v", m)
	}
	m = api.MatchAnswer{}
	s.want(t, 200, "POST", "/api/v1/apps/a/routes/match", object{"method": "PUT", "path": "/hello/x"}, &m)
	if m.Matched || !slices.Equal(m.Allow, []string{"GET", "HEAD"}) {
		t.Errorf("match says %+v", m)
	}
	s.problem(t, 422, "POST", "/api/v1/apps/a/routes/match", object{"method": "PUT", "path": "nowhere"})
	s.want(t, 204, "DELETE", "/api/v1/apps/a/routes/"+r.ID, nil, nil)
	s.problem(t, 404, "GET", "/api/v1/apps/a/routes/"+r.ID, nil)
	s.problem(t, 422, "GET", "/api/v1/apps/a/routes/none", nil)
}

func TestInvoke(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	const path = "/api/v1/apps/a/scripts/hello/invoke"
	var out api.InvocationResult
	s.want(t, 200, "POST", path, object{
		"method": "put", "path": "/x", "query": "a=b", "headers": []object{{"name": "x-test", "value": "1"}}, "body": "hällo",
	}, &out)
	in := <-s.invoked
	if in.Method != "PUT" || in.Path != "/x" || in.Query != "a=b" || in.Headers[0].Name != "X-Test" || string(in.Body) != "hällo" || in.Principal == uuid.Nil {
		t.Errorf("the script is called with %+v", in)
	}
	if out.ExecutionID != executionID.String() || out.Status != 201 || out.Body != "hällo" || out.BodyBase64 != nil || out.Headers[0].Value != "b" {
		t.Errorf("the answer is %+v", out)
	}
	s.want(t, 200, "POST", path, object{"body_base64": []byte{0xff, 0}, "async": true}, &out)
	if in := <-s.invoked; in.Method != "POST" || in.Path != "/" || !in.Async || len(in.Body) != 2 {
		t.Errorf("the script is called with %+v", in)
	}
	if out.Status != 202 || out.Body != "" || len(out.BodyBase64) != 2 {
		t.Errorf("the answer is %+v", out)
	}
	for kind, status := range map[string]int{
		"script_error": 502, "script_panic": 502, "invalid_response": 502, "engine_lost": 502, "deadline": 504,
		"compile_error": 422, "unavailable": 503,
	} {
		p := s.problem(t, status, "POST", path, object{"path": "/fail/" + kind})
		<-s.invoked
		if p.Detail != "it failed" || kind != "unavailable" && p.ExecutionID != executionID.String() {
			t.Errorf("%s gives %+v", kind, p)
		}
	}
	if r := s.do(t, "POST", path, object{"path": "/fail/unavailable"}); r.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q", r.header.Get("Retry-After"))
	}
	if r := s.do(t, "POST", path, object{"path": "/defect"}); r.status != 500 || strings.Contains(string(r.body), "hunter2") {
		t.Errorf("a defect gives %d %s", r.status, r.body)
	}
	s.problem(t, 422, "POST", path, object{"path": "x"})
	s.problem(t, 422, "POST", path, object{"method": "ANY"})
	s.problem(t, 422, "POST", path, object{"body": "a", "body_base64": []byte("b")})
	s.want(t, 201, "POST", "/api/v1/apps/a/scripts", object{"name": "empty"}, nil)
	s.problem(t, 409, "POST", "/api/v1/apps/a/scripts/empty/invoke", object{})
}

func TestListsContinue(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	for i := range 4 {
		s.want(t, 201, "POST", "/api/v1/apps", object{"slug": fmt.Sprintf("more-%d", i)}, nil)
		s.want(t, 201, "POST", "/api/v1/apps/a/domains", object{"host": fmt.Sprintf("h%d.example.com", i)}, nil)
		s.want(t, 201, "POST", "/api/v1/apps/a/scripts", object{"name": fmt.Sprintf("s%d", i)}, nil)
		s.want(t, 201, "POST", "/api/v1/apps/a/routes", object{"pattern": fmt.Sprintf("/p%d", i), "script": "hello"}, nil)
		s.want(t, 201, "POST", "/api/v1/apps/a/scripts/hello/versions", object{
			"files": []object{{"name": "main.go", "content": fmt.Sprint(i)}}, "activate": false,
		}, nil)
	}
	id := appNamed(s.snapshot(t), "a").ID
	for i := range 5 { // of two entries, finished at the same time
		entry := uuid.UUID{0: byte(i / 3), 15: 1}
		s.execute(t, id, entry, i%3+1)
		s.bury(t, id, uuid.UUID{0: byte(i), 15: 2})
	}
	for _, path := range []string{
		"/api/v1/apps", "/api/v1/apps/a/domains", "/api/v1/apps/a/scripts", "/api/v1/apps/a/routes",
		"/api/v1/apps/a/scripts/hello/versions", "/api/v1/apps/a/releases", "/api/v1/apps/a/executions", "/api/v1/apps/a/dead-letters",
	} {
		var seen []string
		cursor, pages := "", 0
		for pages == 0 || cursor != "" {
			var page api.Page[json.RawMessage]
			s.want(t, 200, "GET", path+"?limit=2&cursor="+cursor, nil, &page)
			if len(page.Items) > 2 {
				t.Fatalf("%s: a page has %d items", path, len(page.Items))
			}
			for _, item := range page.Items {
				seen = append(seen, string(item))
			}
			cursor = page.NextCursor
			pages++
		}
		var whole api.Page[json.RawMessage]
		s.want(t, 200, "GET", path, nil, &whole)
		if len(seen) != 5 || pages != 3 || len(whole.Items) != 5 || whole.NextCursor != "" {
			t.Errorf("%s: %d items in %d pages, %d at once", path, len(seen), pages, len(whole.Items))
		}
		for i := range whole.Items {
			if seen[i] != string(whole.Items[i]) {
				t.Errorf("%s: item %d differs in pages", path, i)
			}
		}
		for _, query := range []string{"?limit=201", "?limit=0", "?cursor=garbage", "?cursor=W10", "?cursor=WyJhIiwiYiIsImMiLCJkIl0", "?other=1"} {
			s.problem(t, 422, "GET", path+query, nil)
		}
	}
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	var script api.Script
	s.want(t, 200, "GET", "/api/v1/apps/a/scripts/hello", nil, &script)
	if script.Quarantine != nil {
		t.Errorf("%+v", script.Quarantine)
	}
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s.quarantined = []coreengine.Quarantine{
		{Script: uuid.New(), Version: 7},
		{Script: uuid.MustParse(script.ID), Version: 1, Since: since, Until: since.Add(time.Minute), Losses: 3, How: "it exited with status 2"},
	}
	s.want(t, 200, "GET", "/api/v1/apps/a/scripts/hello", nil, &script)
	want := api.Quarantine{Version: 1, Since: since, Until: since.Add(time.Minute), Losses: 3, How: "it exited with status 2"}
	if script.Quarantine == nil || *script.Quarantine != want {
		t.Errorf("%+v", script.Quarantine)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	const canary = "a-canary-that-nobody-finds"
	var set api.Secret
	s.want(t, 200, "POST", "/api/v1/apps/a/secrets", object{"name": "KEY", "value": object{"k": canary}}, &set)
	if set.Name != "KEY" || set.UpdatedAt.IsZero() {
		t.Errorf("%+v", set)
	}
	s.want(t, 200, "POST", "/api/v1/apps/a/secrets", object{"name": "KEY", "value": canary}, nil)
	s.want(t, 200, "POST", "/api/v1/apps/a/secrets", object{"name": "EMPTY", "value": nil}, nil)
	var page api.Page[api.Secret]
	s.want(t, 200, "GET", "/api/v1/apps/a/secrets?limit=1", nil, &page)
	if len(page.Items) != 1 || page.Items[0].Name != "EMPTY" || page.NextCursor == "" {
		t.Errorf("%+v", page)
	}
	s.want(t, 200, "GET", "/api/v1/apps/a/secrets?cursor="+page.NextCursor, nil, &page)
	if len(page.Items) != 1 || page.Items[0].Name != "KEY" {
		t.Errorf("%+v", page)
	}
	id := appNamed(s.snapshot(t), "a").ID
	if value, err := s.vault.Get(t.Context(), id, "KEY"); err != nil || string(value) != `"`+canary+`"` {
		t.Errorf("%s, %v", value, err)
	}
	for field, body := range map[string]object{
		"body.name":  {"name": "1 a", "value": 1},
		"body.value": {"name": "KEY", "value": strings.Repeat("x", 64<<10)},
	} {
		if p := s.problem(t, 422, "POST", "/api/v1/apps/a/secrets", body); len(p.Errors) != 1 || p.Errors[0].Location != field {
			t.Errorf("%s: %+v", field, p)
		} else if field == "body.value" && p.Detail != "value has 65538 bytes, more than 65536" { // a sentence, also where only that is shown
			t.Errorf("it says %q", p.Detail)
		}
	}
	for _, path := range []string{"/api/v1/apps/a/secrets", "/api/v1/apps/a", "/api/v1/apps/a/releases"} {
		if r := s.do(t, "GET", path, nil); strings.Contains(string(r.body), canary) {
			t.Errorf("%s shows it: %s", path, r.body)
		}
	}
	if n := s.count(t, "SELECT count(*) FROM audit_log WHERE action = 'secret.set' AND object IN ('KEY', 'EMPTY')"); n != 3 {
		t.Errorf("%d lines in the audit log", n)
	}
	if n := s.count(t, "SELECT count(*) FROM audit_log WHERE detail::text LIKE '%canary%'"); n != 0 {
		t.Error("the audit log knows it")
	}
	var r api.Rotation
	s.want(t, 200, "POST", "/api/v1/secrets/rotate", nil, &r)
	if r.Done != 2 || r.Left != 0 {
		t.Errorf("%+v", r)
	}
	s.want(t, 204, "DELETE", "/api/v1/apps/a/secrets/KEY", nil, nil)
	s.problem(t, 404, "DELETE", "/api/v1/apps/a/secrets/KEY", nil)
	if bound := s.key(t, id, auth.Scopes); s.do(t, "POST", "/api/v1/secrets/rotate", nil, "Authorization", "Bearer "+bound).status != 403 {
		t.Error("the key of an app rotates those of all")
	}
}
