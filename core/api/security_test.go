package api_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/auth"
)

// bodies is one valid body for each operation that takes one, so that what is refused is refused for its ids.
var bodies = map[string]any{
	"create-app":           object{"slug": "new"},
	"update-app":           object{"name": "x"},
	"weigh-app":            object{"weight": 2},
	"claim-domain":         object{"host": "new.example.com"},
	"create-script":        object{"name": "new"},
	"update-script":        object{"description": "x"},
	"create-version":       object{"files": []object{{"name": "main.go", "content": "x"}}},
	"deploy":               object{"script": "new", "files": []object{{"name": "main.go", "content": "x"}}},
	"invoke-script":        object{"path": "/"},
	"try-script":           object{"files": []object{{"name": "main.go", "content": "package main"}}},
	"create-route":         object{"pattern": "/new", "script": "hello"},
	"check-route":          object{"pattern": "/new"},
	"match-route":          object{"method": "GET", "path": "/"},
	"resolve-dead-letter":  object{"resolution": "ignored"},
	"create-queue":         object{"name": "new", "script": "hello"},
	"update-queue":         object{"policy": object{}},
	"send-message":         object{"text": "x"},
	"set-secret":           object{"name": "NEW", "value": 1},
	"create-trigger":       object{"name": "new", "kind": "dead_letter", "script": "hello"},
	"update-trigger":       object{"enabled": false},
	"fire-trigger":         object{},
	"create-sink":          object{"name": "new", "kind": "http", "config": object{}},
	"update-sink":          object{"config": object{"url": "http://example.com"}},
	"test-sink":            object{},
	"create-source":        object{"name": "new", "kind": "smtp", "config": object{}},
	"update-source":        object{"enabled": false},
	"resolve-dead-letters": object{"resolution": "ignored", "filter": object{"cause": "nothing"}},
	"replay-dead-letter":   object{},
	"start-replay":         object{"preview": true},
	"cancel-entries":       object{"script": "hello"},
}

// call is one request for one operation of the document.
type call struct {
	id, method, path string
	nested           bool // it names something in the app
	body             any
}

// calls fills in the paths of all operations of apps.
func calls(t *testing.T, s *server, app string, values map[string]string) []call {
	t.Helper()
	var list []call
	param := regexp.MustCompile(`\{(\w+)\}`)
	for path, operations := range fetchDocument(t, s).Paths {
		for method, op := range operations {
			if !strings.Contains(path, "{app}") {
				continue
			}
			c := call{id: op.OperationID, method: strings.ToUpper(method), body: bodies[op.OperationID]}
			if op.RequestBody != nil && c.body == nil {
				t.Errorf("%s takes a body: name a valid one in the table", op.OperationID)
			}
			c.path = param.ReplaceAllStringFunc(path, func(p string) string {
				name := strings.Trim(p, "{}")
				if name == "app" {
					return app
				}
				value, ok := values[name]
				if !ok {
					t.Errorf("%s has the parameter %s: name one of another app in the table", op.OperationID, name)
				}
				c.nested = true
				return url.PathEscape(value)
			})
			list = append(list, c)
		}
	}
	return list
}

// TestForeignIsMissing asks every operation for what another app has: all of it must look as if it did not exist, and
// nothing may change.
func TestForeignIsMissing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	script, route := s.app(t, "mine")
	s.want(t, 201, "POST", "/api/v1/apps", object{"slug": "theirs"}, nil)
	mine := appNamed(s.snapshot(t), "mine").ID
	id := uuid.New()
	s.execute(t, mine, id, 3)
	s.bury(t, mine, id)
	s.want(t, 201, "POST", "/api/v1/apps/mine/queues", object{"name": "q", "script": "hello"}, nil)
	s.want(t, 201, "POST", "/api/v1/apps/mine/triggers", object{"name": "t", "kind": "dead_letter", "script": "hello"}, nil)
	s.want(t, 200, "POST", "/api/v1/apps/mine/secrets", object{"name": "KEY", "value": "x"}, nil)
	s.want(t, 201, "POST", "/api/v1/apps/mine/sinks", object{"name": "k", "kind": "http", "config": object{}}, nil)
	s.want(t, 201, "POST", "/api/v1/apps/mine/sources", object{"name": "f", "kind": "smtp", "config": object{}}, nil)
	var replay api.Replay
	s.want(t, 202, "POST", "/api/v1/apps/mine/replays", object{"filter": object{"cause": "nothing"}}, &replay)
	foreign := map[string]string{
		"secret": "KEY", "queue": "q", "trigger": "t", "sink": "k", "source": "f", "replay": replay.ID,
		"script": script.ID, "number": "1", "route": route.ID, "host": "mine.example.com",
		"execution": id.String(), "entry": id.String(), "dead_letter": id.String(),
	}
	before := s.count(t, "SELECT version FROM config")
	audited := s.count(t, "SELECT count(*) FROM audit_log")
	missing := s.do(t, "GET", "/api/v1/apps/nobody", nil).body
	for _, c := range calls(t, s, "theirs", foreign) {
		if !c.nested {
			continue
		}
		if r := s.do(t, c.method, c.path, c.body); r.status != 404 || string(r.body) != string(missing) {
			t.Errorf("%s: %s %s in another app: %d %s", c.id, c.method, c.path, r.status, r.body)
		}
	}
	// A key that is bound to one app does not see the other at all, whether it exists or not.
	bound := s.key(t, mine, auth.Scopes)
	for _, name := range []string{"theirs", "nobody"} {
		for _, c := range calls(t, s, name, foreign) {
			r := s.do(t, c.method, c.path, c.body, "Authorization", "Bearer "+bound)
			if r.status != 404 || string(r.body) != string(missing) {
				t.Errorf("%s: %s %s with a key of another app: %d %s", c.id, c.method, c.path, r.status, r.body)
			}
		}
	}
	// Ids of another app in a body are no way in either.
	s.problem(t, 422, "POST", "/api/v1/apps/theirs/routes", object{"pattern": "/x", "script": script.ID})
	s.problem(t, 422, "GET", "/api/v1/apps/theirs/executions?script="+script.ID, nil)
	if after := s.count(t, "SELECT version FROM config"); after != before || s.count(t, "SELECT count(*) FROM audit_log") != audited {
		t.Errorf("the requests changed something: version %d, then %d", before, after)
	}
	var apps api.Page[api.App]
	r := s.do(t, "GET", "/api/v1/apps", nil, "Authorization", "Bearer "+bound)
	decode(t, r, &apps)
	if len(apps.Items) != 1 || apps.Items[0].Slug != "mine" {
		t.Errorf("a key of one app lists %+v", apps.Items)
	}
	if r := s.do(t, "POST", "/api/v1/apps", object{"slug": "x"}, "Authorization", "Bearer "+bound); r.status != 403 {
		t.Errorf("a key of one app makes another: %d", r.status)
	}
}

// key stores another key of the owner, and returns its token.
func (s *server) key(t *testing.T, app uuid.UUID, scopes []auth.Scope) string {
	t.Helper()
	var owner uuid.UUID
	if err := s.pool.QueryRow(t.Context(), `SELECT id FROM users WHERE name = 'owner'`).Scan(&owner); err != nil {
		t.Fatal(err)
	}
	return s.keyOf(t, owner, app, scopes)
}

// keyOf stores a key of a user, made by another instance's Bootstrap, and returns its token.
func (s *server) keyOf(t *testing.T, user, app uuid.UUID, scopes []auth.Scope) string {
	t.Helper()
	var made keyCatcher
	token, _, err := auth.Bootstrap(t.Context(), &made)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.pool.Exec(t.Context(), `INSERT INTO api_keys (id, user_id, name, prefix, hash, app, scopes)
		VALUES ($1, $2, 'test', $3, $4, nullif($5::uuid, '00000000-0000-0000-0000-000000000000'), $6)`,
		made.ID, user, made.Prefix, made.Hash, app, scopes); err != nil {
		t.Fatal(err)
	}
	return token
}

// TestCapabilities calls every operation of an app with a key for each single scope: all but those whose capability is
// of that scope are forbidden.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "a")
	doc := fetchDocument(t, s)
	capability := make(map[string]auth.Capability)
	for _, operations := range doc.Paths {
		for _, op := range operations {
			capability[op.OperationID] = op.Capability
		}
	}
	id := uuid.NewString()
	nothing := map[string]string{
		"script": "nobody", "number": "99", "route": id, "host": "nobody.example.com", "execution": id, "entry": id, "dead_letter": id,
		"secret": "NOBODY", "queue": "nobody", "trigger": "nobody", "sink": "nobody", "source": "nobody", "replay": id,
	}
	for _, scope := range auth.Scopes {
		token := s.key(t, uuid.Nil, []auth.Scope{scope})
		p := auth.Principal{Role: auth.RoleOwner, Scopes: []auth.Scope{scope}}
		for _, c := range calls(t, s, "a", nothing) {
			may := p.Can(capability[c.id])
			if may && !c.nested {
				continue // it would do what it is for; the other tests call it
			}
			r := s.do(t, c.method, c.path, c.body, "Authorization", "Bearer "+token)
			if forbidden := r.status == 403; forbidden == may {
				t.Errorf("%s with the scope %s: %d %s", c.id, scope, r.status, r.body)
			}
		}
	}
	writer := s.key(t, uuid.Nil, []auth.Scope{auth.ScopeScriptWrite})
	r := s.do(t, "POST", "/api/v1/apps/a/deploy", object{
		"script": "x", "files": []object{{"name": "main.go", "content": "x"}}, "routes": []object{{"pattern": "/x"}},
	}, "Authorization", "Bearer "+writer)
	if r.status != 403 {
		t.Errorf("a key that may not write routes deploys one: %d", r.status)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var who api.Whoami
	s.want(t, 200, "GET", "/api/v1/whoami", nil, &who)
	if who.Name != "owner" || who.Role != "owner" || len(who.Scopes) != len(auth.Scopes) {
		t.Errorf("whoami says %+v", who)
	}
	for _, path := range []string{"/api/v1/whoami", "/api/v1/apps", "/api/v1/apps/nobody"} {
		r := s.do(t, "GET", path, nil, "Authorization", "")
		if r.status != 401 || !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s without a credential: %d %q", path, r.status, r.header.Get("WWW-Authenticate"))
		}
	}
	for _, bad := range []string{"Bearer", "Bearer x", "Basic b3duZXI6eA==", "Bearer " + s.token + "x", s.token, "Bearer pic_"} {
		for _, path := range []string{"/api/v1/whoami", "/version"} {
			s.problem(t, 401, "GET", path, nil, "Authorization", bad)
		}
	}
	if r := s.do(t, "GET", "/version", nil, "Authorization", ""); r.status != 200 {
		t.Errorf("/version without a credential: %d", r.status)
	}
	if r := s.do(t, "GET", "/api/v1/whoami", nil, "Authorization", "bearer "+s.token); r.status != 200 {
		t.Errorf("a scheme in lower case: %d", r.status)
	}
}

// TestStrictJSON sends bodies that parsers read in more than one way.
func TestStrictJSON(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for text, status := range map[string]int{
		``:                                    400,
		`{`:                                   400,
		`{"slug":"a"}{}`:                      400,
		`{"slug":"a"} x`:                      400,
		`{"slug":"a","slug":"b"}`:             400,
		`{"slug":"a","sl\u0075g":"b"}`:        400,
		`{"slug":"a",}`:                       400,
		"{\"slug\":\"\xff\"}":                 400,
		`{"slug":"a","name":"\u0000"}`:        400,
		`{"slug":"a","name":"\ud800"}`:        400,
		`[]`:                                  422,
		`null`:                                422,
		`{}`:                                  422,
		`{"slug":1}`:                          422,
		`{"Slug":"a"}`:                        422,
		`{"slug":"a","Name":"b"}`:             422,
		`{"slug":"a","app_id":"b"}`:           422,
		`{"slug":"a","owner":"b","role":"c"}`: 422,
		`{"slug":"` + strings.Repeat("a", 64) + `"}`: 422,

		`{"slug":"a","x":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`: 422, // as deep as may be, but there is no x
		`{"slug":"a","x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`: 400,
		`{"slug":"a","x":[` + strings.Repeat("{},", 49_900) + `0]}`:                  422,
		`{"slug":"a","x":[` + strings.Repeat("{},", 50_000) + `0]}`:                  400,
		`{"slug":"a","name":"\\u0000"}`:                                              201,
	} {
		if r := s.do(t, "POST", "/api/v1/apps", text); r.status != status {
			t.Errorf("%.60s: %d %s; want %d", text, r.status, r.body, status)
		}
	}
	if n := s.count(t, "SELECT count(*) FROM apps"); n != 1 {
		t.Errorf("there are %d apps", n)
	}
	s.problem(t, 415, "POST", "/api/v1/apps", "slug: a", "Content-Type", "application/yaml")
	s.problem(t, 413, "POST", "/api/v1/apps", `{"slug":"`+strings.Repeat("a", 1<<20)+`"}`)
	if r := s.do(t, "POST", "/api/v1/apps", strings.Repeat("secret", 100)); strings.Contains(string(r.body), "secretsecret") {
		t.Error("a body that is not JSON comes back")
	}
}

func TestFallback(t *testing.T) {
	t.Parallel()
	s := newAnonymous(t)
	for _, path := range []string{"/", "/nothing", "/api/v1", "/api/v1/apps/", "/api/v2/apps", "/api/v1/apps/a%00b", "/api/v1/apps/%ff"} {
		s.problem(t, 404, "GET", path, nil)
	}
	s.problem(t, 405, "PUT", "/api/v1/apps", nil)
	if r := s.do(t, "PUT", "/api/v1/apps", nil); r.header.Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("Allow is %q", r.header.Get("Allow"))
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/version": 200} {
		r := s.do(t, "GET", path, nil)
		if r.status != want || r.header.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.Contains(r.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%s: %d %v", path, r.status, r.header)
		}
	}
	s.ready = errors.New("no database")
	want := `{"ready":false,"error":"no database","isolation":[{"layer":"uid","holds":false,"why":"only root can"}]}` + "\n"
	if r := s.do(t, "GET", "/readyz", nil); r.status != 503 || string(r.body) != want {
		t.Errorf("/readyz: %d %s", r.status, r.body)
	}
}

// TestDocsPageIsOffline reads the page as a browser would: all that it loads comes from this server, and the policy
// allows each of its scripts.
func TestDocsPageIsOffline(t *testing.T) {
	t.Parallel()
	s := newAnonymous(t)
	page := s.do(t, "GET", "/docs", nil)
	policy := page.header.Get("Content-Security-Policy")
	html := string(page.body)
	if page.status != 200 || !strings.Contains(html, "/openapi.json") || !strings.Contains(policy, "default-src 'self'") {
		t.Fatalf("%d, policy %q", page.status, policy)
	}
	if !regexp.MustCompile(`validatorUrl:\s*null`).MatchString(html) {
		t.Error("the online validator is on")
	}
	scripts := regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindAllStringSubmatch(html, -1)
	for _, script := range scripts {
		sum := sha256.Sum256([]byte(script[1]))
		if !strings.Contains(policy, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
			t.Errorf("the policy %q forbids a script of the page", policy)
		}
	}
	assets := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(html, -1)
	for _, asset := range assets {
		if !strings.HasPrefix(asset[1], "/docs/") {
			t.Errorf("the page loads %s", asset[1])
		} else if r := s.do(t, "GET", asset[1], nil); r.status != 200 || len(r.body) == 0 {
			t.Errorf("%s: %d", asset[1], r.status)
		}
	}
	if len(scripts) == 0 || len(assets) < 3 {
		t.Errorf("the page has %d scripts and %d assets", len(scripts), len(assets))
	}
	if r := s.do(t, "GET", "/openapi.yaml", nil); r.status != 200 || !strings.Contains(string(r.body), "operationId: deploy") {
		t.Errorf("/openapi.yaml: %d", r.status)
	}
}

// The numbers tell of every app, so they are for those who may see every one.
func TestMetricsAreGuarded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	if r := s.do(t, "GET", "/metrics", nil); r.status != 200 || string(r.body) != "numbers" {
		t.Errorf("the owner has %d %s", r.status, r.body)
	}
	for name, header := range map[string]string{"nobody": "", "a stranger": "Bearer pic_x_y", "another scheme": "Basic " + s.token} {
		if r := s.do(t, "GET", "/metrics", nil, "Authorization", header); r.status != 401 || !strings.Contains(string(r.body), "Authorization") {
			t.Errorf("%s has %d %s", name, r.status, r.body)
		}
	}
}
