package starlark_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/picloud/picloud/plugins/engine/starlark"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/watch"
)

func TestMain(m *testing.M) {
	watch.Bound() // as the process of the engine
	goleak.VerifyTestMain(m)
}

func bundle(hash, src string) engine.Bundle {
	return engine.Bundle{Hash: hash, Script: hash, Files: []engine.File{{Name: "main.star", Data: []byte(src)}}}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, enginetest.Suite{
		New: starlark.New,
		Bundle: bundle("good", `
def handle(ctx):
    if ctx.batch != None:
        return batch_result([
            failure(id = m.id, error = m.text(), fatal = True)
            for m in ctx.batch
            if m.text().startswith("bad")
        ])
    command, _, arg = ctx.request.text().partition(" ")
    if command == "echo":
        return response(body = arg)
    if command in ("fail", "panic"):
        fail(arg)
    if command == "retry":
        retry_after(arg, 90)
    if command == "fatal":
        fatal(arg)
    if command == "send":
        return response(body = ctx.invoke("other", arg))
    if command == "log":
        ctx.log.info(arg)
        return response()
    if command == "wait":
        while True:
            pass
    if command == "flood":
        return response(body = "x" * int(arg))
    fail("unknown command")
`),
		Broken: bundle("broken", "def handle(ctx):\n    return nothing\n"),
		Line:   2, Column: 12,
		Importer: engine.Bundle{
			Hash: "importer", Files: sources("main.star", "load(\"app/shared\", \"echo\")\n\ndef handle(ctx):\n    return echo(ctx)\n"),
			Modules: []engine.Module{module("shared", "shared.star",
				"def echo(ctx):\n    return response(body = ctx.request.text().removeprefix(\"echo \"))\n")},
		},
	})
}

// answer collects what a run sends.
type answer struct {
	engine.Head
	body bytes.Buffer
	mu   sync.Mutex
	logs []engine.Log
}

type sink struct{ *answer }

func (s sink) Head(h engine.Head) error    { s.answer.Head = h; return nil }
func (s sink) Write(p []byte) (int, error) { return s.body.Write(p) }

func load(t *testing.T, e engine.Engine, hash, src string) {
	t.Helper()
	if loaded, err := e.Load(t.Context(), bundle(hash, src)); err != nil {
		t.Fatalf("%s: %v %+v", hash, err, loaded)
	}
	t.Cleanup(func() { e.Unload(hash) })
}

func invoke(ctx context.Context, e engine.Engine, hash, body string) (*answer, error) {
	a := &answer{}
	err := e.Invoke(ctx, &engine.Invocation{
		Bundle: hash, ExecutionID: "x1", Attempt: 2,
		Event: &event.Envelope{ID: "e1", Type: "http.request", Time: time.Unix(0, 0), HTTP: &event.HTTP{
			Method: "POST", Path: "/users/7", Query: "q=1&q=2",
			Headers: []event.Header{{Name: "Accept", Value: "a"}, {Name: "Accept", Value: "b"}},
			Params:  []event.Param{{Name: "id", Value: "7"}}, Rest: "r/s",
		}},
		Body: []byte(body),
		Log:  func(l engine.Log) { a.mu.Lock(); a.logs = append(a.logs, l); a.mu.Unlock() },
	}, sink{a})
	return a, err
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	e := starlark.New()
	for name, c := range map[string]struct {
		body   string
		status int
		kind   string
		want   string
	}{
		"dict":         {`return {"a": 1, "b": ["x", None, True, 1.5]}`, 200, "application/json", `{"a":1,"b":["x",null,true,1.5]}`},
		"struct":       {`return struct(name = "Ada")`, 200, "application/json", `{"name":"Ada"}`},
		"none":         {`return None`, 204, "", ""},
		"text":         {`return response(status = 201, headers = {"x-a": "1", "X-B": ["2", "3"]}, body = "hi")`, 201, "text/plain; charset=utf-8", "hi"},
		"bytes":        {`return response(body = b"\x00\xff")`, 200, "application/octet-stream", "\x00\xff"},
		"json":         {`return response(body = [1])`, 200, "application/json", "[1]"},
		"own type":     {`return response(headers = {"content-type": "text/html"}, body = "<b>")`, 200, "text/html", "<b>"},
		"large number": {`return 1 << 100`, 200, "application/json", "1267650600228229401496703205376"},
		"request": {
			`
    q = ctx.request
    return [q.method, q.path, q.params["id"], q.param("id"), q.param("none"), q.rest, q.query["q"], q.query_value("q"),
        q.headers["Accept"], q.header("accept"), q.json()["n"], len(q.body), ctx.execution_id, ctx.attempt, ctx.event.id, ctx.event.time]`,
			200, "application/json", `["POST","/users/7","7","7","","r/s",["1","2"],"1",["a","b"],"a",3,7,"x1",2,"e1","1970-01-01T00:00:00Z"]`,
		},
		"loops":              {"\n    n = 0\n    while n < 5:\n        n += 1\n    return n", 200, "application/json", "5"},
		"sorting":            {`return sorted([{"n": 2}, {"n": 1}], key = lambda x: x["n"])`, 200, "application/json", `[{"n":1},{"n":2}]`},
		"brackets in a text": {`return json.decode('["' + '[' * 5000 + '\\\\", 1]')[1]`, 200, "application/json", "1"},
		"deep JSON":          {`return json.decode("[" * 5000, default = "no")`, 200, "application/json", `"no"`},
		"globals":            {`return table["a"]`, 200, "application/json", "1"},
	} {
		load(t, e, name, "table = {\"a\": 1}\ndef handle(ctx):\n    "+c.body+"\n")
		a, err := invoke(t.Context(), e, name, `{"n":3}`)
		kind := ""
		for _, h := range a.Headers {
			if h.Name == "Content-Type" {
				kind = h.Value
			}
		}
		if err != nil || a.Status != c.status || kind != c.kind || a.body.String() != c.want {
			t.Errorf("%s: %d %q %s, %v", name, a.Status, kind, a.body.String(), err)
		}
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	e := starlark.New()
	load(t, e, "h", "def handle(ctx):\n    print('a', 1)\n    ctx.log.warn('b', {'n': 1}, [2])\n    ctx.log.error(3)\n")
	a, err := invoke(t.Context(), e, "h", "")
	if err != nil || len(a.logs) != 3 || a.logs[0].Message != "a 1" || a.logs[1].Level != "warn" || string(a.logs[1].Data) != `[{"n":1},[2]]` ||
		a.logs[2].Message != "3" {
		t.Errorf("%+v, %v", a.logs, err)
	}
}

// A body that is nothing but brackets is its sender's fault, and must not end the process.
func TestBodyOfBrackets(t *testing.T) { // alone: what it takes of memory would be another test's fault
	e := starlark.New()
	load(t, e, "h", "def handle(ctx):\n    return ctx.request.json()\n")
	_, err := invoke(t.Context(), e, "h", strings.Repeat("[", 6<<20))
	if f := fault.From(err); f == nil || f.Kind != fault.ScriptError || !strings.Contains(f.Message, "nested") {
		t.Errorf("%v", err)
	}
}

// Whatever a script does, its run ends with a name, and the next call works.
func TestContained(t *testing.T) {
	e := starlark.New()
	load(t, e, "neighbour", "def handle(ctx):\n    return 1\n")
	for name, c := range map[string]struct {
		body string
		kind fault.Kind
	}{
		"error":              {`fail("no luck")`, fault.ScriptError},
		"division":           {`return 1 // 0`, fault.ScriptError},
		"loop":               {"\n    while True:\n        pass", fault.Deadline},
		"loop in a callback": {"\n    def key(x):\n        while True:\n            pass\n    return sorted([2, 1], key = key)", fault.Deadline},
		"sleep":              {`ctx.sleep(3600)`, fault.Deadline},
		"recursion":          {"\n    def f(g):\n        return g(g)\n    return f(f)", fault.ScriptError},
		"append":             {"\n    a = []\n    while True:\n        a.append('x' * 1000000)", fault.Limit},
		"small appends":      {"\n    a = []\n    while True:\n        a.append([])", fault.Limit},
		"growing text":       {"\n    s = 'x'\n    while True:\n        s = s + s", fault.Limit},
		"growing dict":       {"\n    d = {}\n    i = 0\n    while True:\n        i += 1\n        d[i] = 'text'", fault.Limit},
		"one large text":     {`return len("x" * (1 << 40))`, fault.ScriptError},
		"large shift":        {`return 1 << (1 << 30)`, fault.ScriptError},
		"giant answer":       {`return "x" * (7 << 20)`, fault.Limit},
		"function":           {`return handle`, fault.InvalidResponse},
		"holds itself":       {"\n    a = []\n    a.append(a)\n    return a", fault.InvalidResponse},
		"deep":               {"\n    a = []\n    for _ in range(100000):\n        a = [a]\n    return a", fault.InvalidResponse},
		"status":             {`return response(status = 99)`, fault.InvalidResponse},
		"line break":         {`return response(headers = {"X-A": "a\r\nSet-Cookie: b"})`, fault.InvalidResponse},
		"header of numbers":  {`return response(headers = {"X-A": 1})`, fault.InvalidResponse},
		"frozen":             {`table["a"] = 2`, fault.ScriptError},
		"no such field":      {`return ctx.nothing`, fault.ScriptError},
		"shared":             {"\n    a = [1]\n    for _ in range(60):\n        a = [a, a]\n    return a", fault.InvalidResponse},
		"shared in json":     {"\n    a = ['x' * 1000]\n    for _ in range(60):\n        a = [a, a]\n    return json.encode(a)", fault.ScriptError},
		"deep in json":       {"\n    a = []\n    for _ in range(100000):\n        a = [a]\n    return json.encode_indent(a)", fault.ScriptError},
		"deep JSON":          {`return json.decode("[" * 6000000)`, fault.ScriptError},
		"deep JSON of dicts": {`return json.decode('{"a":' * 1000000)`, fault.ScriptError},
		"JSON":               {`return ctx.request.json()`, fault.ScriptError},
	} {
		t.Run(name, func(t *testing.T) {
			load(t, e, name, "table = {\"a\": 1}\ndef handle(ctx):\n    "+c.body+"\n")
			for range 3 {
				limit := time.Minute
				if c.kind == fault.Deadline {
					limit = 20 * time.Millisecond
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				_, err := invoke(ctx, e, name, "body")
				cancel()
				if f := fault.From(err); f == nil || f.Kind != c.kind || f.Origin != fault.Script {
					t.Fatalf("%+v", f)
				}
				if _, err := invoke(t.Context(), e, "neighbour", ""); err != nil {
					t.Fatalf("the next call: %v", err)
				}
			}
		})
	}
}

func TestRefusedSources(t *testing.T) { // alone: what it takes of memory would be another test's fault
	e := starlark.New()
	for name, c := range map[string]struct {
		src  string
		line int
		says string
	}{
		"empty":       {" \n", 1, "the file is empty"},
		"syntax":      {"def handle(ctx):\n  return (", 2, "got newline"},
		"undefined":   {"def handle(ctx):\n    return nothing", 2, "undefined: nothing"},
		"no handle":   {"x = 1", 1, "no def handle"},
		"parameters":  {"def handle():\n    pass", 1, "one parameter"},
		"load":        {"load('other.star', 'x')\ndef handle(ctx):\n    pass", 1, "neither a module"},
		"initialiser": {"x = [1, 2]\ny = x[7]\ndef handle(ctx):\n    pass", 2, "out of range"},
		"endless":     {"x = []\nwhile True:\n    x.append('x' * 1000000)\ndef handle(ctx):\n    pass", 1, "memory"},
	} {
		loaded, err := e.Load(t.Context(), bundle(name, c.src))
		if f := fault.From(err); f == nil || f.Kind != fault.Compile || len(loaded.Diagnostics) == 0 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := loaded.Diagnostics[0]; d.Line != c.line || d.Column == 0 || !strings.Contains(d.Message, c.says) {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func BenchmarkOrders(b *testing.B) {
	e := starlark.New()
	src := `
def handle(ctx):
    lines = sorted(ctx.request.json()["lines"], key = lambda l: l["item"])
    total = 0.0
    for l in lines:
        total += l["count"] * l["price"]
    return {"total": total, "items": [l["item"].upper() for l in lines]}
`
	if _, err := e.Load(b.Context(), bundle("h", src)); err != nil {
		b.Fatal(err)
	}
	body := `{"lines":[{"item":"pear","count":3,"price":0.4},{"item":"desk","count":1,"price":249},{"item":"lamp","count":2,"price":39.9}]}`
	for b.Loop() {
		if _, err := invoke(b.Context(), e, "h", body); err != nil {
			b.Fatal(err)
		}
	}
}
