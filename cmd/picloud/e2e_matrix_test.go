package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/service"
)

// asked is a call of a service. Its arguments are in the order of the table of services, those that are options by their names; {doc}
// and {file} stand for what the owner has, {web} for an address outside, and {upload} for what the run has begun.
type asked struct {
	service, method string
	args            []any
	options         object
	// makes: it names nothing that is there already, but makes something in the app whose run it is, or reaches outside.
	makes bool
	// apart: a transactional script cannot call it.
	apart  bool
	handle *string // in place of that in handles
}

func (a asked) String() string { return a.service + "." + a.method }

// matrix has a row for each method of the table of services, and for what engines send by themselves. What the owner has is in fill.
var matrix = []asked{
	{"kv", "get", []any{"k"}, nil, false, false, nil},
	{"kv", "entry", []any{"k"}, nil, false, false, nil},
	{"kv", "has", []any{"k"}, nil, false, false, nil},
	{"kv", "list", []any{}, nil, false, true, nil},
	{"kv", "set", []any{"set", 1}, nil, true, false, nil},
	{"kv", "increment", []any{"n"}, nil, true, false, nil},
	{"kv", "delete", []any{"k"}, nil, false, false, nil},
	{"docs", "create", []any{object{"n": 1}}, nil, true, false, nil},
	{"docs", "index", []any{"n", "number"}, nil, true, true, nil},
	{"docs", "get", []any{"{doc}"}, nil, false, false, nil},
	{"docs", "find", []any{object{"n": 1}}, nil, false, true, nil},
	{"docs", "find_one", []any{object{"n": 1}}, nil, false, true, nil},
	{"docs", "list", []any{}, nil, false, true, nil},
	{"docs", "update", []any{"{doc}", object{"n": 2}}, nil, false, false, nil},
	{"docs", "delete", []any{"{doc}"}, nil, false, false, nil},
	{"files", "create", []any{"made", "content"}, nil, true, true, nil},
	{"files", "begin", []any{}, nil, true, true, nil},
	{"files", "write", []any{"{upload}", 0, "content"}, nil, true, true, nil},
	{"files", "finish", []any{"{upload}", "large"}, nil, true, true, nil},
	{"files", "get", []any{"{file}"}, nil, false, true, nil},
	{"files", "head", []any{"{file}"}, nil, false, true, nil},
	{"files", "read", []any{"{file}", 0}, nil, false, true, nil},
	{"files", "list", []any{}, nil, false, true, nil},
	{"files", "delete", []any{"{file}"}, nil, false, true, nil},
	{"secrets", "set", []any{"SET", "v"}, nil, true, true, nil},
	{"secrets", "get", []any{"KEY"}, nil, false, false, nil},
	{"secrets", "list", []any{}, nil, false, false, nil},
	{"secrets", "delete", []any{"KEY"}, nil, false, true, nil},
	{"pubsub", "publish", []any{"topic", 1}, nil, false, false, nil},
	{"pubsub", "publish_ephemeral", []any{"topic", 1}, nil, false, true, nil},
	{"sink", "send", []any{1}, nil, false, false, nil},
	{"email", "send", []any{}, object{"to": "ada@example.com", "subject": "hello", "text": "hello"}, true, false, nil},
	{"queue", "send", []any{"x"}, nil, false, false, nil},
	{"queue", "depth", []any{}, nil, false, false, nil},
	{"queue", "purge", []any{}, nil, false, true, nil},
	{"invoke", "call", []any{"here", "x"}, nil, false, true, nil},
	{"invoke", "send", []any{"there", "x"}, nil, false, false, nil},
	{"http", "get", []any{"{web}"}, nil, true, true, nil},
	{"http", "head", []any{"{web}"}, nil, true, true, nil},
	{"http", "delete", []any{"{web}"}, nil, true, true, nil},
	{"http", "post", []any{"{web}", "x"}, nil, true, true, nil},
	{"http", "put", []any{"{web}", "x"}, nil, true, true, nil},
	{"http", "patch", []any{"{web}", "x"}, nil, true, true, nil},
	{"http", "request", []any{"{web}"}, nil, true, true, nil},
}

// handles are what services are opened with.
var handles = map[string]string{"kv": "c", "docs": "c", "files": "c", "queue": "q", "sink": "s"}

type object = map[string]any

// askers are the scripts of testdata/asker, which do what a request says, in each language.
var askers = func() []string {
	list := []string{"ask.go", "ask.js", "ask.ts", "ask.star"}
	if underRace { // modules are compiled ten times slower
		return list
	}
	return append(list, "ask.wasm")
}()

// fill is what the owner has.
const fill = `
def handle(ctx):
    ctx.kv("c").set("k", "ours")
    ctx.secrets.set("KEY", "ours")
    return {
        "doc": ctx.docs("c").create({"n": 1})["id"],
        "file": ctx.files("c").create("n", "ours")["id"],
    }
`

// TestServicesMatrix drives every method of every service in every language: for what another app has, and with and without the grant
// that it needs. The rows are checked against the table of services: a new method without a row fails.
func TestServicesMatrix(t *testing.T) {
	t.Parallel()
	rows := map[string]bool{}
	for _, row := range matrix {
		rows[row.String()] = true
	}
	for _, s := range service.Services() {
		for _, m := range s.Methods {
			if !rows[s.Name+"."+m.Name] {
				t.Errorf("%s.%s has no row", s.Name, m.Name)
			}
		}
	}

	m := newMatrix(t)
	for _, asker := range askers {
		// One after the other: each takes what the owner has away.
		t.Run("of another app/"+asker, func(t *testing.T) { m.foreign(t, asker) })
	}
	for _, grant := range tenant.DefaultGrants() {
		t.Run("grants/"+grant, func(t *testing.T) { m.grants(t, grant) })
	}
	t.Run("names", m.names)
	for _, asker := range askers {
		t.Run("withdrawn/"+asker, func(t *testing.T) { m.withdrawn(t, asker) })
	}
}

// matrixed is a node with the apps of the matrix.
type matrixed struct {
	*instance
	db   *pgxpool.Pool
	web  string
	hits atomic.Int64  // requests to web
	hold chan struct{} // what web waits for under /hold, after it has told held
	held chan struct{}
}

func newMatrix(t *testing.T) *matrixed {
	m := &matrixed{hold: make(chan struct{}), held: make(chan struct{})}
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		m.hits.Add(1)
		if r.URL.Path == "/hold" {
			m.held <- struct{}{}
			<-m.hold
		}
	}))
	t.Cleanup(web.Close)
	m.web = web.URL
	database := coretest.EmptyURL(t)
	m.instance = start(t, setup{command: "dev", data: coretest.DataDir(t), database: database, args: []string{
		"--http-allow", strings.TrimPrefix(web.URL, "http://"), "--smtp-host", "127.0.0.1", "--smtp-port", "1", "--smtp-from", "cloud@example.com",
	}})
	var err error
	if m.db, err = pgxpool.New(t.Context(), database); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.db.Close)
	module := buildAsker(t)
	for _, app := range []string{"owner", "thief"} {
		m.command("apps", "create", app)
		m.command("domains", "add", app+".example.com", "--app", app)
		for _, asker := range askers {
			file := filepath.Join("testdata", "asker", asker)
			if filepath.Ext(asker) == ".wasm" {
				file = module
			}
			m.command("deploy", file, "--app", app, "--name", named(asker), "--route", "POST /"+asker)
		}
	}
	file := filepath.Join(t.TempDir(), "fill.star")
	if err := os.WriteFile(file, []byte(fill), 0o600); err != nil {
		t.Fatal(err)
	}
	m.command("deploy", file, "--app", "owner", "--route", "POST /fill")
	m.command("deploy", filepath.Join("testdata", "asker", "ask.star"), "--app", "owner", "--name", other, "--route", "POST /"+other)
	m.command("deploy", script(t, "here", `return ctx.KV("called").Increment("n", 1)`), "--app", "owner")
	m.command("deploy", script(t, "there", `return nil, nil`), "--app", "owner")
	m.command("queues", "create", "q", "--app", "owner", "--script", "there")
	m.command("sinks", "create", "s", "--app", "owner", "--url", "https://example.com/hook", "--attempts", "1", "--policy", `{"delay": "1h"}`)
	m.command("triggers", "create", "topic", "--app", "owner", "--kind", "pubsub", "--topic", "topic", "--script", "there", "--policy", `{"delay": "1h"}`)
	return m
}

// buildAsker compiles testdata/asker.
func buildAsker(t *testing.T) (module string) {
	module = filepath.Join(t.TempDir(), "ask.wasm")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s", "-buildmode=c-shared", "-o", module, "./testdata/asker")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the module: %v\n%s", err, out)
	}
	return module
}

// other is a script that calls those of askers, and that they call.
const other = "other"

// named is what an asker is called.
func named(asker string) string { return strings.ReplaceAll(asker, ".", "-") }

// fill has the owner have what the rows name.
func (m *matrixed) fill(t *testing.T) map[string]string {
	t.Helper()
	values := map[string]string{}
	if err := json.Unmarshal(m.from("owner", "POST", "/fill", "{}").body, &values); err != nil {
		t.Fatal(err)
	}
	values["web"] = m.web
	return values
}

// foreign asks every service for what another app has, by its very names and ids. It must look as if nobody had it, and stay as it is.
func (m *matrixed) foreign(t *testing.T, asker string) {
	ours := m.fill(t)
	nobody := map[string]string{"doc": "00000000-0000-7000-8000-000000000000", "file": "00000000-0000-7000-8000-000000000000"}
	for _, row := range matrix {
		if row.makes {
			continue
		}
		theirs := m.ask(t, "thief", asker, row.ask(t, ours))
		if missing := m.ask(t, "thief", asker, row.ask(t, nobody)); theirs != missing {
			t.Errorf("%s of another app: %s; of nobody: %s", row, theirs, missing)
		}
		if got := m.ask(t, "owner", asker, row.ask(t, ours)); got == theirs || !strings.HasPrefix(got, "200") {
			t.Errorf("%s of its own: %s", row, got)
		}
	}
}

var anyID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)

// ask is the call as askers read it.
func (a asked) ask(t *testing.T, values map[string]string) string {
	t.Helper()
	name := a.method
	if a.String() == "invoke.send" {
		name = "invoke" // of the context
	}
	if a.args == nil {
		a.args = []any{}
	}
	handle := a.handle
	if usual, opened := handles[a.service]; opened && handle == nil {
		handle = &usual
	}
	what := object{"service": a.service, "handle": handle, "method": service.Camel(name), "name": name, "args": a.args}
	if a.options != nil {
		what["options"] = a.options
	}
	text, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range values {
		text = bytes.ReplaceAll(text, []byte("{"+name+"}"), []byte(value))
	}
	return string(text)
}

// ask has a script make calls, and returns the answer, without the ids in it.
func (m *matrixed) ask(t *testing.T, app, asker string, calls ...string) string {
	t.Helper()
	return anyID.ReplaceAllString(m.raw(app, asker, calls...), "ID")
}

// raw is ask with the ids.
func (m *matrixed) raw(app, asker string, calls ...string) string {
	r := m.from(app, http.MethodPost, "/"+asker, "["+strings.Join(calls, ",")+"]")
	return fmt.Sprint(r.status, " ", string(r.body))
}

// from sends a request to a host of an app.
func (n *instance) from(app, method, path, body string) reply {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), method, n.public+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	req.Host = app + ".example.com"
	r, err := n.do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}
