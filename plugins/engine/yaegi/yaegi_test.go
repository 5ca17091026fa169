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
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func load(t testing.TB, e engine.Engine, hash, src string) {
	t.Helper()
	loaded, err := e.Load(t.Context(), engine.Bundle{Hash: hash, Script: "test", Files: []engine.File{{Name: "main.go", Data: []byte(src)}}})
	if err != nil {
		t.Fatalf("load: %v %+v", err, loaded)
	}
	t.Cleanup(func() { e.Unload(hash) })
}

func invoke(ctx context.Context, e engine.Engine, hash, body string) (*answer, error) {
	a := &answer{}
	var mu sync.Mutex
	err := e.Invoke(ctx, &engine.Invocation{
		Bundle: hash, ExecutionID: "x1", Attempt: 2,
		Event: &event.Envelope{ID: "e1", Type: "http.request", HTTP: &event.HTTP{
			Method: "POST", Path: "/users/7", Query: "q=1&q=2",
			Headers: []event.Header{{Name: "Accept", Value: "a"}, {Name: "Accept", Value: "b"}},
			Params:  []event.Param{{Name: "id", Value: "7"}}, Rest: "r/s",
		}},
		Body: []byte(body),
		Log:  func(l engine.Log) { mu.Lock(); a.logs = append(a.logs, l); mu.Unlock() },
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
			200, "application/json", `"POST/users/777r/s[1 2] [a b]abodyx121.0e1http.request"`,
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
		"func":          {nil, `return map[string]any{"f": func() {}}, nil`, fault.InvalidResponse, "func()"},
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
		"syntax":       {"package main\nfunc {", 2, "expected"},
		"package":      {"package other\nimport \"github.com/picloud/picloud/sdk/picloud\"\nfunc Handle(ctx *picloud.Context) (any, error) { return nil, nil }", 1, "package main"},
		"os/exec":      {script([]string{"os/exec"}, `return exec.Command("id"), nil`), 4, `"os/exec" is not available`},
		"relative":     {script([]string{"./x"}, `return nil, nil`), 4, "not available"},
		"no Handle":    {"package main\nfunc handle() {}", 1, "no func Handle"},
		"signature":    {"package main\nimport \"github.com/picloud/picloud/sdk/picloud\"\nfunc Handle(ctx *picloud.Context) any { return nil }", 3, "Handle must be"},
		"unnamed":      {"package main\nimport \"github.com/picloud/picloud/sdk/picloud\"\nfunc Handle(*picloud.Context) (any, error) { return nil, nil }", 3, "Handle must be"},
		"undefined":    {script(nil, "\nreturn nothing, nil"), 7, "undefined: nothing"},
		"type":         {script(nil, `var s string = 3; return s, nil`), 6, ""},
		"range number": {script(nil, `for range 3 {}; return nil, nil`), 6, "range over a number"},
		"min":          {script(nil, `return min(1, 2), nil`), 6, "builtin min"},
		"os.Exit":      {script([]string{"os"}, `os.Exit(1); return nil, nil`), 4, "not available"},
		"cut symbol":   {script([]string{"time"}, `time.Sleep(1); return nil, nil`), 7, "Sleep"},
	} {
		loaded, err := e.Load(t.Context(), engine.Bundle{Hash: name, Files: []engine.File{{Name: "main.go", Data: []byte(c.src)}}})
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
		"child blocked": {nil, `c := make(chan int); go func() { <-c }(); <-c; return nil, nil`},
	} {
		t.Run(name, func(t *testing.T) {
			load(t, e, name, script(c.imports, "if ctx.Request.Body[0] == 'g' { return 1, nil }\n"+c.body))
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

func TestInitialisersEndWithLoad(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	src := script(nil, "return x, nil") + "\nvar x = forever()\nfunc forever() int { for {} }\n"
	_, err := yaegi.New().Load(ctx, engine.Bundle{Hash: "h", Files: []engine.File{{Name: "main.go", Data: []byte(src)}}})
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
	const calls = 5000
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
		_, err = e.Load(t.Context(), engine.Bundle{Hash: rel, Files: []engine.File{
			{Name: "main.go", Data: []byte(script([]string{rel}, "return nil, nil"))},
		}})
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
			load(t, e, pkg, script([]string{pkg}, "return nil, nil"))
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
	src := script([]string{"fmt", "encoding/json", "strings"}, `return fmt.Sprint(strings.ToUpper("x")), nil`)
	b.ReportAllocs()
	for b.Loop() {
		load(b, e, "h", src)
		e.Unload("h")
	}
}
