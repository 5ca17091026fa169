package yaegi_test

import (
	"bytes"
	"context"
	"fmt"
	"go/build"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/picloud/picloud/plugins/engine/yaegi"
	"github.com/picloud/picloud/plugins/engine/yaegi/symbols"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/watch"
)

func TestMain(m *testing.M) {
	watch.Bound() // as the process of the engine
	goleak.VerifyTestMain(m)
}

const head = "package main\nimport (\n\"github.com/picloud/picloud/sdk/picloud\"\n%s)\n"

// script makes a source of imports and the body of Handle. The body begins in line 5 + the number of imports.
func script(imports []string, body string) string {
	var list strings.Builder
	for _, i := range imports {
		fmt.Fprintf(&list, "%q\n", i)
	}
	return fmt.Sprintf(head, list.String()) + "func Handle(ctx *picloud.Context) (any, error) {\n" + body + "\n}\n"
}

// answer collects what a run sends.
type answer struct {
	engine.Head
	body bytes.Buffer
	logs []engine.Log
}

type sink struct{ *answer }

func (s sink) Head(h engine.Head) error    { s.answer.Head = h; return nil }
func (s sink) Write(p []byte) (int, error) { return s.body.Write(p) }
func (a *answer) header(name string) (v string) {
	for _, h := range a.Headers {
		if h.Name == name {
			v = h.Value
		}
	}
	return v
}

func bundle(hash, src string) engine.Bundle {
	return engine.Bundle{Hash: hash, Script: "test", Files: []engine.File{{Name: "main.go", Data: []byte(src)}}}
}

func load(t testing.TB, e engine.Engine, hash, src string) {
	t.Helper()
	loaded, err := e.Load(t.Context(), bundle(hash, src))
	if err != nil {
		t.Fatalf("load: %v %+v", err, loaded)
	}
	t.Cleanup(func() { e.Unload(hash) })
}

// request is the event of a run.
func request() *event.Envelope {
	return &event.Envelope{ID: "e1", Type: "http.request", HTTP: &event.HTTP{
		Method: "POST", Path: "/users/7", Query: "q=1&q=2",
		Headers: []event.Header{{Name: "Accept", Value: "a"}, {Name: "Accept", Value: "b"}},
		Params:  []event.Param{{Name: "id", Value: "7"}}, Rest: "r/s",
	}}
}

func invoke(ctx context.Context, e engine.Engine, hash, body string) (*answer, error) {
	a := &answer{}
	var mu sync.Mutex
	err := e.Invoke(ctx, &engine.Invocation{
		Bundle: hash, ExecutionID: "x1", Attempt: 2,
		Event: request(),
		Body:  []byte(body),
		Log:   func(l engine.Log) { mu.Lock(); a.logs = append(a.logs, l); mu.Unlock() },
	}, sink{a})
	return a, err
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	for name, c := range map[string]struct {
		imports []string
		body    string
		status  int
		kind    string
		want    string
	}{
		"map":      {nil, `return map[string]any{"a": 1, "b": []string{"x"}}, nil`, 200, "application/json", `{"a":1,"b":["x"]}`},
		"struct":   {nil, "type user struct { Name string `json:\"name\"`; Age int `json:\"age,omitempty\"` }\nreturn user{Name: \"Ada\"}, nil", 200, "application/json", `{"name":"Ada"}`},
		"nil":      {nil, `return nil, nil`, 204, "", ""},
		"text":     {nil, `return picloud.Response{Status: 201, Body: "hi", Headers: picloud.Headers{"X-A": {"1"}}}, nil`, 201, "text/plain; charset=utf-8", "hi"},
		"bytes":    {nil, `return &picloud.Response{Body: []byte{0, 255}}, nil`, 200, "application/octet-stream", "\x00\xff"},
		"own type": {nil, `return picloud.Response{Headers: picloud.Headers{"Content-Type": {"text/html"}}, Body: "<b>"}, nil`, 200, "text/html", "<b>"},
		"request": {
			[]string{"fmt"},
			`return fmt.Sprint(ctx.Request.Method, ctx.Request.Path, ctx.Request.Params["id"], ctx.Request.Param("id"), ctx.Request.Rest,
				ctx.Request.Query["q"], ctx.Request.Headers["Accept"], ctx.Request.Header("accept"), string(ctx.Request.Body),
				ctx.ExecutionID, ctx.Attempt, ctx.SDKVersion, ctx.Event.ID, ctx.Event.Type), nil`,
			200, "application/json", `"POST/users/777r/s[1 2] [a b]abodyx12` + picloud.Version + `e1http.request"`,
		},
		"json": {
			[]string{"sort", "strings"},
			`var in struct { Names []string }
				if err := ctx.Request.JSON(&in); err == nil { return nil, err }
				names := strings.Split("c,a,b", ",")
				sort.Strings(names)
				return names, nil`,
			200, "application/json", `["a","b","c"]`,
		},
		"no body":     {nil, `return picloud.Response{Status: 304}, nil`, 304, "", ""},
		"header case": {nil, `return picloud.Response{Headers: picloud.Headers{"content-type": {"a/b"}}, Body: "x"}, nil`, 200, "a/b", "x"},
		"time-out": {
			[]string{"context", "time"},
			`c, cancel := context.WithTimeout(context.Background(), time.Millisecond)
				defer cancel()
				select { case <-make(chan int): case <-c.Done(): }
				return c.Err().Error(), nil`,
			200, "application/json", `"context deadline exceeded"`,
		},
		"xml": {
			[]string{"encoding/xml"},
			"var v struct { A int `xml:\"a\"` }\nerr := xml.Unmarshal([]byte(`<v><a>3</a></v>`), &v)\nreturn v, err",
			200, "application/json", `{"A":3}`,
		},
		"end of input": {[]string{"io", "strings"}, `_, err := strings.NewReader("").ReadByte(); return err == io.EOF, nil`, 200, "application/json", `true`},
		"error of fmt": {[]string{"fmt", "errors"}, `base := errors.New("base"); return errors.Is(fmt.Errorf("x: %w", base), base), nil`, 200, "application/json", `true`},
	} {
		load(t, e, name, script(c.imports, c.body))
		a, err := invoke(t.Context(), e, name, "body")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a.Status != c.status || a.header("Content-Type") != c.kind || a.body.String() != c.want {
			t.Errorf("%s: %d %q %q", name, a.Status, a.header("Content-Type"), a.body.String())
		}
	}
}

// What a script declares is sent, logged and printed as Go would.
func TestOwnTypes(t *testing.T) {
	t.Parallel()
	declarations := `
type status string
func (s status) ok() bool { return s == "ok" }
type shape interface { Area() int }
type square struct { Side int }
func (s square) Area() int { return s.Side * s.Side }
type drawing struct {
	Main  shape ` + "`json:\"main\"`" + `
	Other any   ` + "`json:\"other,omitempty\"`" + `
	Note  string
}
type account struct { Name string; password string; x, y int; C, d int ` + "`" + `json:"C"` + "`" + ` }
type named struct { Name string }
func (n named) String() string { return "named " + n.Name }
type failure struct { Code int }
func (f *failure) Error() string { return "failure" }
type quoted int
func (q quoted) MarshalJSON() ([]byte, error) { return []byte("\"q\""), nil }
func Twice[T any](v T) []T { return []T{v, v} }
var park = 1
func main() {}
`
	e := yaegi.New()
	for name, c := range map[string]struct{ body, want string }{
		"in a map":     {`return map[string]any{"s": status("ok"), "q": square{2}, "p": &square{3}, "l": []status{"a"}}, nil`, `{"l":["a"],"p":{"Side":3},"q":{"Side":2},"s":"ok"}`},
		"in a list":    {`return []any{square{1}, nil, 2, []any{status("b")}}, nil`, `[{"Side":1},null,2,["b"]]`},
		"an interface": {`var s shape = square{4}; return s, nil`, `{"Side":4}`},
		"interfaces":   {`return []shape{square{1}, nil}, nil`, `[{"Side":1},null]`},
		"map of them":  {`return map[string]shape{"a": square{1}}, nil`, `{"a":{"Side":1}}`},
		"fields":       {`return drawing{Main: square{1}, Note: "n"}, nil`, `{"main":{"Side":1},"Note":"n"}`},
		"nil fields":   {`return []drawing{{}, {Other: status("x")}}, nil`, `[{"main":null,"Note":""},{"main":null,"other":"x","Note":""}]`},
		"hidden":       {`return account{"ada", "secret", 1, 2, 3, 4}, nil`, `{"Name":"ada","C":3}`},
		"hidden input": {`var a account; err := json.Unmarshal([]byte("{\"Name\":\"a\",\"Xpassword\":\"c\",\"Xx\":1}"), &a); return a.password == "" && a.x == 0, err`, `true`},
		"comparison":   {`return len("a") > 0, nil`, `true`},
		"negation":     {`var v any; v = !status("ok").ok(); return v, nil`, `false`},
		"shift":        {`n := 3; return n << 2, nil`, `12`},
		"response":     {`return picloud.Response{Body: map[string]any{"a": square{2}}}, nil`, `{"a":{"Side":2}}`},
		"json.Marshal": {`b, err := json.Marshal(map[string]any{"a": square{2}}); return string(b), err`, `"{\"a\":{\"Side\":2}}"`},
		"own JSON":     {`b, err := json.Marshal(quoted(1)); return string(b), err`, `"\"q\""`},
		"print":        {`return fmt.Sprint(named{"a"}, " ", []any{square{1}}), nil`, `"named a [{1}]"`},
		"print error":  {`var err error = &failure{1}; return fmt.Sprintf("%v %s", err, fmt.Errorf("x: %w", err)), nil`, `"failure x: failure"`},
		"type switch":  {`for _, x := range []any{square{5}} { switch v := x.(type) { case shape: return v.Area(), nil } }; return nil, nil`, `25`},
		"generic":      {`return Twice(status("a")), nil`, `["a","a"]`},
		"name of ours": {`return park, nil`, `1`},
		"log":          {`ctx.Log.Info("x", map[string]any{"a": square{2}}); return nil, nil`, ""},
	} {
		src := script([]string{"encoding/json", "fmt"}, "_, _ = json.Marshal(nil)\n_ = fmt.Sprint()\n"+c.body)
		load(t, e, name, src+declarations)
		a, err := invoke(t.Context(), e, name, "")
		if err != nil || a.body.String() != c.want {
			t.Errorf("%s: %s, %v", name, a.body.String(), err)
		}
		if name == "log" && (len(a.logs) != 1 || string(a.logs[0].Data) != `{"a":{"Side":2}}`) {
			t.Errorf("%s", a.logs[0].Data)
		}
	}
}

func TestHandleNeedsNoNameForItsParameter(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	load(t, e, "h", `package main
import "github.com/picloud/picloud/sdk/picloud"
func Handle(*picloud.Context) (any, error) { return func(int, string) int { return 3 }(1, ""), nil }`)
	if a, err := invoke(t.Context(), e, "h", ""); err != nil || a.body.String() != "3" {
		t.Fatalf("%q, %v", a.body.String(), err)
	}
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	b := bundle("h", script(nil, `return picloud.Response{Body: ctx.Request.Body}, nil`))
	b.Limits.BodyBytes = 10
	if _, err := e.Load(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Unload("h") })
	if a, err := invoke(t.Context(), e, "h", "ten bytes."); err != nil || a.body.Len() != 10 {
		t.Errorf("%q, %v", a.body.String(), err)
	}
	_, err := invoke(t.Context(), e, "h", "eleven byte")
	if f := fault.From(err); f == nil || f.Kind != fault.Limit || !strings.Contains(f.Message, "more than 10") {
		t.Errorf("%+v", f)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	for name, c := range map[string]struct {
		imports []string
		body    string
		kind    fault.Kind
		says    string
	}{
		"error":         {[]string{"errors"}, `return nil, errors.New("no luck")`, fault.ScriptError, "no luck"},
		"panic":         {nil, `panic("oh no")`, fault.ScriptPanic, "oh no"},
		"index":         {nil, `var a []int; return a[3], nil`, fault.ScriptPanic, "index out of range"},
		"nil map":       {nil, `var m map[string]int; m["a"] = 1; return m, nil`, fault.ScriptPanic, "nil map"},
		"channel":       {nil, `return make(chan int), nil`, fault.InvalidResponse, "chan int"},
		"deep channel":  {nil, `type list struct { Items []any }; return map[string]any{"a": list{[]any{1, make(chan int)}}}, nil`, fault.InvalidResponse, `chan int at ["a"].Items[1]`},
		"func":          {nil, `return map[string]any{"f": func() {}}, nil`, fault.InvalidResponse, `func() at ["f"]`},
		"cycle":         {nil, `m := map[string]any{}; m["a"] = m; m["b"] = m; return m, nil`, fault.InvalidResponse, "cycle"},
		"line break":    {nil, `return picloud.Response{Headers: picloud.Headers{"X-A": {"a\r\nSet-Cookie: b"}}}, nil`, fault.InvalidResponse, "X-A"},
		"header name":   {nil, `return picloud.Response{Headers: picloud.Headers{"X A": {"a"}}}, nil`, fault.InvalidResponse, "X A"},
		"hop by hop":    {nil, `return picloud.Response{Headers: picloud.Headers{"transfer-encoding": {"chunked"}}}, nil`, fault.InvalidResponse, "Transfer-Encoding"},
		"204 and body":  {nil, `return picloud.Response{Status: 204, Body: "a"}, nil`, fault.InvalidResponse, "204"},
		"600":           {nil, `return picloud.Response{Status: 600}, nil`, fault.InvalidResponse, "600"},
		"wrapped error": {[]string{"fmt", "errors"}, `return nil, fmt.Errorf("get: %w", errors.New("no luck"))`, fault.ScriptError, "get: no luck"},
		"not a number":  {[]string{"math"}, `return math.NaN(), nil`, fault.InvalidResponse, "NaN"},
		"status":        {nil, `return picloud.Response{Status: 99}, nil`, fault.InvalidResponse, "99"},
		"giant":         {[]string{"strings"}, `return strings.Repeat("x", 7<<20), nil`, fault.Limit, "bytes"},
		"error in JSON": {nil, `var v struct{ A int }; return nil, ctx.Request.JSON(&v)`, fault.ScriptError, "not the JSON"},
	} {
		load(t, e, name, script(c.imports, c.body))
		for range 2 { // the next call works, or fails alike
			_, err := invoke(t.Context(), e, name, "body")
			f := fault.From(err)
			if f == nil || f.Kind != c.kind || f.Origin != fault.Script || !strings.Contains(f.Message, c.says) {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

func TestRefusedSources(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	for name, c := range map[string]struct {
		src  string
		line int
		says string
	}{
		"syntax":        {"package main\nfunc {", 2, "expected"},
		"package":       {"package other\nimport \"github.com/picloud/picloud/sdk/picloud\"\nfunc Handle(ctx *picloud.Context) (any, error) { return nil, nil }", 1, "package main"},
		"os/exec":       {script([]string{"os/exec"}, `return exec.Command("id"), nil`), 4, `"os/exec" is not available`},
		"relative":      {script([]string{"./x"}, `return nil, nil`), 4, "not available"},
		"no Handle":     {"package main\nfunc handle() {}", 1, "no func Handle"},
		"signature":     {"package main\nimport \"github.com/picloud/picloud/sdk/picloud\"\nfunc Handle(ctx *picloud.Context) any { return nil }", 3, "Handle must be"},
		"undefined":     {script(nil, "\nreturn nothing, nil"), 7, "undefined: nothing"},
		"type":          {script(nil, `var s string = 3; return s, nil`), 6, ""},
		"range func":    {script(nil, `for range func(yield func() bool) {} {}; return nil, nil`), 6, "came with go1.23"},
		"build tag":     {"//go:build go1.24\n\n" + script(nil, `for range func(yield func() bool) {} {}; return nil, nil`), 8, "came with go1.23"},
		"unused":        {script(nil, "x := 1\nreturn 1, nil"), 6, "not used: x"},
		"unused import": {script([]string{"strings"}, "return 1, nil"), 4, "imported and not used"},
		"no return":     {script(nil, "return f(), nil") + "func f() int {\n}\n", 9, "missing return"},
		"one result":    {script(nil, "return 1"), 6, "not enough return values"},
		"generic":       {"package main\nimport \"github.com/picloud/picloud/sdk/picloud\"\nfunc Handle[T any](ctx *picloud.Context) (any, error) { return nil, nil }", 3, "Handle must be"},
		"not a func":    {"package main\nvar Handle = 1", 1, "no func Handle"},
		"platform":      {script(nil, `return ctx.runtime, nil`), 6, "no field or method runtime"},
		"init panic":    {script(nil, "return x, nil") + "var x = f()\nfunc f() int { panic(\"oh no\") }\n", 9, "panicked when it was loaded: oh no"},
		"empty":         {" \n", 1, "the file is empty"},
		"time.Sleep":    {script([]string{"time"}, `time.Sleep(1); return nil, nil`), 7, "use ctx.Sleep"},
		"os.Exit":       {script([]string{"os"}, `os.Exit(1); return nil, nil`), 4, "not available"},
	} {
		loaded, err := e.Load(t.Context(), bundle(name, c.src))
		if f := fault.From(err); f == nil || f.Kind != fault.Compile || len(loaded.Diagnostics) == 0 {
			t.Errorf("%s: %v %+v", name, err, loaded)
			continue
		}
		d := loaded.Diagnostics[0]
		if d.File != "main.go" || d.Line != c.line || d.Column == 0 || !strings.Contains(d.Message, c.says) {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// Whatever a script does, its run ends with its deadline, nothing of it is left, and the next call works.
func TestStops(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	for name, c := range map[string]struct {
		imports []string
		body    string
	}{
		"loop":          {nil, `for {}`},
		"counting loop": {nil, `i := 0; for { i++ }`},
		"sort callback": {[]string{"sort"}, `a := []int{3, 1, 2}; sort.Slice(a, func(i, j int) bool { for {} }); return a, nil`},
		"recover loop":  {nil, `for { func() { defer func() { recover() }(); panic(1) }() }`},
		"receive":       {nil, `c := make(chan int); <-c; return nil, nil`},
		"send":          {nil, `c := make(chan int); c <- 1; return nil, nil`},
		"range channel": {nil, `c := make(chan int); for x := range c { return x, nil }; return nil, nil`},
		"select":        {nil, `a, b := make(chan int), make(chan int); select { case <-a: case <-b: }; return nil, nil`},
		"empty select":  {nil, `select {}`},
		"sleep":         {[]string{"time"}, `for { ctx.Sleep(time.Hour) }`},
		"nil channel":   {nil, `var c chan int; <-c; return nil, nil`},
		"context":       {[]string{"context"}, `c, cancel := context.WithCancel(context.Background()); defer cancel(); <-c.Done(); return nil, nil`},
		"deferred loop": {nil, `defer func() { recover(); for {} }(); panic(1)`},
		"child loops":   {nil, `go func() { for {} }(); for {}`},
		"error loops":   {nil, `return nil, loops{}`},
		"child blocked": {nil, `c := make(chan int); go func() { <-c }(); <-c; return nil, nil`},
	} {
		t.Run(name, func(t *testing.T) {
			load(t, e, name, script(c.imports, "if ctx.Request.Body[0] == 'g' { return 1, nil }\n"+c.body)+
				"type loops struct{}\nfunc (loops) Error() string { for {} }\n")
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				_, err := invoke(ctx, e, name, "stop")
				cancel()
				if f := fault.From(err); f == nil || f.Kind != fault.Deadline {
					t.Fatalf("%v", err)
				}
				if a, err := invoke(t.Context(), e, name, "go"); err != nil || a.body.String() != "1" {
					t.Fatalf("the next call: %q, %v", a.body.String(), err)
				}
			}
		})
	}
}

// What a run leaves behind ends with it, though the run itself is done.
func TestNothingIsLeft(t *testing.T) {
	before := goleak.IgnoreCurrent()
	e := yaegi.New()
	src := script([]string{"time"}, `go func() { for {} }()
		go func() { ctx.Sleep(time.Hour) }()
		go func() { <-make(chan int) }()
		return "done", nil`)
	if _, err := e.Load(t.Context(), bundle("h", src)); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if a, err := invoke(t.Context(), e, "h", ""); err != nil || a.body.String() != `"done"` {
			t.Fatalf("%q, %v", a.body.String(), err)
		}
	}
	e.Unload("h")
	noneIsLeft(t, before)
}

// Runs that are stopped do not disturb those beside them.
func TestNeighboursOfStoppedRuns(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	load(t, e, "endless", script(nil, `for {}`))
	load(t, e, "neighbour", script(nil, `n := 0; for i := 0; i < 1000; i++ { n += i }; return n, nil`))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
			if _, err := invoke(ctx, e, "endless", ""); fault.From(err).Kind != fault.Deadline {
				t.Errorf("not stopped: %v", err)
			}
			cancel()
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
			if a, err := invoke(t.Context(), e, "neighbour", ""); err != nil || a.body.String() != "499500" {
				t.Fatalf("%q, %v", a.body.String(), err)
			}
		}
	}
}

func TestInitialisersEndWithLoad(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	src := script(nil, "return x, nil") + "\nvar x = forever()\nfunc forever() int { for {} }\n"
	_, err := yaegi.New().Load(ctx, bundle("h", src))
	if f := fault.From(err); f == nil || !strings.Contains(f.Message, "did not end in time") {
		t.Fatal(err)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	load(t, e, "h", script([]string{"fmt"}, `ctx.Log.Info("one"); ctx.Log.Warn("two", map[string]int{"n": 2}); ctx.Log.Error("three", 1, "b")
		fmt.Println("four"); fmt.Print("fi"); fmt.Printf("v%s", "e"); return nil, nil`))
	a, err := invoke(t.Context(), e, "h", "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range a.logs {
		got = append(got, l.Level+" "+l.Message+" "+string(l.Data))
	}
	want := []string{"info one ", `warn two {"n":2}`, `error three [1,"b"]`, "info four ", "info five "}
	if !slices.Equal(got, want) {
		t.Fatalf("%q", got)
	}
}

// Calls of one bundle and of two run side by side, each in an interpreter of its own.
func TestParallelCalls(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	load(t, e, "a", script(nil, "counter++; n := counter; for i := 0; i < 100; i++ { counter++ }\nreturn counter - n, nil")+"var counter int\n")
	load(t, e, "b", script(nil, `return string(ctx.Request.Body), nil`))
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for range 50 {
				if a, err := invoke(context.Background(), e, "a", ""); err != nil || a.body.String() != "100" {
					t.Errorf("a: %q %v", a.body.String(), err)
					return
				}
				word := fmt.Sprint("w", i)
				if a, err := invoke(context.Background(), e, "b", word); err != nil || a.body.String() != `"`+word+`"` {
					t.Errorf("b: %q %v", a.body.String(), err)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestCallsLeakNothing(t *testing.T) {
	e := yaegi.New()
	load(t, e, "h", script(nil, `return 1, nil`))
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for range 100 {
		if _, err := invoke(t.Context(), e, "h", ""); err != nil {
			t.Fatal(err)
		}
	}
	before := heap()
	const calls = 20_000
	for range calls {
		if _, err := invoke(t.Context(), e, "h", ""); err != nil {
			t.Fatal(err)
		}
	}
	if after := heap(); after > before+calls*16 {
		t.Fatalf("%d bytes a call are left", (after-before)/calls)
	}
}

// Every package of the standard library can be imported exactly if it is listed.
func TestOnlyListedPackages(t *testing.T) {
	t.Parallel()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(strings.TrimSpace(string(root)), "src")
	listed := symbols.Packages()
	e := yaegi.New()
	n := 0
	err = filepath.WalkDir(src, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(src, path)
		if rel == "cmd" || d.Name() == "testdata" || d.Name() == "vendor" || d.Name() == "internal" {
			return filepath.SkipDir
		}
		if _, err := build.ImportDir(path, 0); err != nil || slices.Contains(listed, rel) {
			return nil // no package, or tested below
		}
		n++
		_, err = e.Load(t.Context(), bundle(rel, script([]string{rel}, "return nil, nil")))
		if f := fault.From(err); f == nil || !strings.Contains(f.Message, "not available") {
			t.Errorf("a script may import %s: %v", rel, err)
		}
		return nil
	})
	if err != nil || n < 80 {
		t.Fatalf("%d packages tried: %v", n, err)
	}
	for _, pkg := range listed {
		if pkg != "github.com/picloud/picloud/sdk/picloud" {
			load(t, e, pkg, strings.Replace(script([]string{pkg}, "return nil, nil"), `"`+pkg, `_ "`+pkg, 1))
		}
	}
}

// Of packages that scripts may import, what reads files, waits, or runs things later is not there.
func TestCutSymbols(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	for _, symbol := range []string{
		"context.AfterFunc", "fmt.Scan", "fmt.Scanf", "fmt.Scanln", "io.Pipe", "time.After", "time.AfterFunc", "time.NewTicker",
		"time.NewTimer", "time.Sleep", "time.Tick", "github.com/picloud/picloud/sdk/picloud.NewContext",
	} {
		path, name := symbol[:strings.LastIndex(symbol, ".")], symbol[strings.LastIndex(symbol, "/")+1:]
		imports := []string{path}
		if name == "picloud.NewContext" {
			imports = nil
		}
		_, err := e.Load(t.Context(), bundle(symbol, script(imports, "_ = "+name+"; return nil, nil")))
		if f := fault.From(err); f == nil || f.Kind != fault.Compile || !strings.Contains(f.Message, name+" is not available") {
			t.Errorf("%s: %v", symbol, err)
		}
	}
}

func BenchmarkInvoke(b *testing.B) {
	for name, src := range map[string]string{
		"trivial": script(nil, `return map[string]string{"message": "hello"}, nil`),
		"json": script([]string{"encoding/json", "sort", "strings"}, `var in struct { Items []struct { Name string; N int } }
			if err := json.Unmarshal(ctx.Request.Body, &in); err != nil { return nil, err }
			sort.Slice(in.Items, func(i, j int) bool { return in.Items[i].N < in.Items[j].N })
			sum := 0
			var names []string
			for _, x := range in.Items { sum += x.N; names = append(names, strings.ToUpper(x.Name)) }
			return map[string]any{"sum": sum, "names": names}, nil`),
	} {
		b.Run(name, func(b *testing.B) {
			e := yaegi.New()
			load(b, e, "h", src)
			body := `{"Items":[{"Name":"c","N":3},{"Name":"a","N":1},{"Name":"b","N":2}]}`
			b.ReportAllocs()
			for b.Loop() {
				if _, err := invoke(context.Background(), e, "h", body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	e := yaegi.New()
	src := script([]string{"fmt", "encoding/json", "strings"}, `_, err := json.Marshal(fmt.Sprint(strings.ToUpper("x"))); return nil, err`)
	b.ReportAllocs()
	for b.Loop() {
		load(b, e, "h", src)
		e.Unload("h")
	}
}

// A value that holds itself ends neither the process nor the run when it is logged, and is a readable panic.
func TestCyclicValues(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	load(t, e, "h", script(nil, `m := map[string]any{}
m["m"] = m
if string(ctx.Request.Body) == "panic" {
	panic(m)
}
ctx.Log.Info("look", m)
return 1, nil`))
	a, err := invoke(t.Context(), e, "h", "log")
	if err != nil || len(a.logs) != 1 || !strings.Contains(string(a.logs[0].Data), "cycle") {
		t.Errorf("%v %+v", err, a.logs)
	}
	if _, err := invoke(t.Context(), e, "h", "panic"); fault.From(err) == nil || !strings.Contains(fault.From(err).Message, "map[string]") {
		t.Errorf("%v", err)
	}
}
