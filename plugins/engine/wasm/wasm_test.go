package wasm_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/picloud/picloud/plugins/engine/wasm"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

// view is an engine that shares what it has loaded with others, as compiling a module that was built from Go takes seconds. Each
// view knows only what was loaded through it.
type view struct {
	engine.Engine
	mu     sync.Mutex
	loaded map[string]bool
}

func (v *view) Load(ctx context.Context, b engine.Bundle) (engine.Loaded, error) {
	loaded, err := v.Engine.Load(ctx, b)
	v.mu.Lock()
	v.loaded[b.Hash] = err == nil
	v.mu.Unlock()
	return loaded, err
}

func (v *view) Unload(hash string) {
	v.mu.Lock()
	delete(v.loaded, hash)
	v.mu.Unlock()
}

func (v *view) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	v.mu.Lock()
	if !v.loaded[inv.Bundle] {
		inv.Bundle = "unknown"
	}
	v.mu.Unlock()
	return v.Engine.Invoke(ctx, inv, out)
}

func TestConformance(t *testing.T) {
	for form, module := range map[string][]byte{"command": built.command, "reactor": built.reactor} {
		if underRace && form == "command" {
			continue
		}
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			e := wasm.New()
			load(t, e, "good", module)
			enginetest.Run(t, enginetest.Suite{
				New:    func() engine.Engine { return &view{Engine: e, loaded: map[string]bool{}} },
				Bundle: bundle("good", module), Broken: bundle("broken", []byte("package main")),
			})
			guests(t, e, form)
		})
	}
}

// guests checks what a script in Go has, beyond the conformance of its engine.
func guests(t *testing.T, e engine.Engine, form string) {
	for body, want := range map[string]string{
		"request": `["POST","/users/7","7","r/s",["1","2"],["a","b"],"a","x1",2,"e1",0,"` + picloud.Version + `"]`,
		"code":    `"not_found"`, "goroutines": "4950", "nap": "", "log-data some": "",
		"environment": `[["good"],0,true,true]`,
		orders:        `{"items":["DESK","LAMP","PEAR"],"total":330}`,
	} {
		a, err := invoke(t.Context(), e, "good", body)
		if err != nil || a.body.String() != want {
			t.Errorf("%s: %s, %v", body, a.body.String(), err)
		}
		if body == "log-data some" &&
			(a.Status != 204 || len(a.logs) != 1 || a.logs[0].Level != "warn" || string(a.logs[0].Data) != `[{"n":1},[2]]`) {
			t.Errorf("%d %+v", a.Status, a.logs)
		}
	}
	if form == "command" {
		for range 2 {
			if a, err := invoke(t.Context(), e, "good", "calls"); err != nil || a.body.String() != "1" {
				t.Errorf("calls: %s, %v", a.body.String(), err)
			}
		}
	}
	for body, c := range map[string]struct {
		kind fault.Kind
		says string
	}{
		"panic oh":        {fault.ScriptPanic, "panic: oh"},
		"panic-beside oh": {fault.ScriptPanic, "panic: oh"},
		"down":            {fault.Limit, "64 MB"},
		"append":          {fault.Limit, "64 MB"},
	} {
		_, err := invoke(t.Context(), e, "good", body)
		if f := fault.From(err); f == nil || f.Kind != c.kind || f.Origin != fault.Script || !strings.Contains(f.Message, c.says) {
			t.Errorf("%s: %+v", body, f)
		}
	}
}

func TestExample(t *testing.T) {
	t.Parallel()
	if underRace {
		return
	}
	e := wasm.New()
	load(t, e, "example", built.example)
	if a, err := invoke(t.Context(), e, "example", ""); err != nil || a.body.String() != `{"call":1,"greeting":"hello, 7"}` {
		t.Errorf("%s, %v", a.body.String(), err)
	}
}

// What a module writes becomes the answer.
func TestAnswers(t *testing.T) {
	t.Parallel()
	e := wasm.New()
	for n, c := range []struct {
		output string
		status int
		kind   string
		want   string
	}{
		{``, 204, "", ""},
		{` null `, 204, "", ""},
		{`{}`, 200, "", ""},
		{`{"body": {"a": [1]}}`, 200, "application/json", `{"a": [1]}`},
		{`{"body": null}`, 200, "application/json", `null`},
		{`{"status": 201, "text": "hi", "headers": {"X-A": "b", "x-b": ["c", "d"]}}`, 201, "text/plain; charset=utf-8", "hi"},
		{`{"base64": "AP8="}`, 200, "application/octet-stream", "\x00\xff"},
		{`{"text": "<b>", "headers": {"content-type": "text/html"}}`, 200, "text/html", "<b>"},
		{`{"failures": []}`, 200, "application/vnd.picloud.batch+json", `{"failures":[]}`},
		{`{"text": 1}`, 0, "", "cannot unmarshal number"},
		{`{"hello": 1}`, 0, "", `unknown field "hello"`},
		{`hello`, 0, "", "invalid character"},
		{`{} {}`, 0, "", "something follows"},
		{`{"text": "a", "body": 1}`, 0, "", "more than one of"},
		{`{"status": 99}`, 0, "", "status 99"},
		{`{"text": "a", "headers": {"A": "b\r\nC: d"}}`, 0, "", "does not allow"},
	} {
		hash := fmt.Sprint(n)
		load(t, e, hash, module{
			imports:   []imported{{"picloud", "output", 2, 0}},
			functions: []function{{export: "handle", code: code(i(0, len(c.output)), call(0))}}, data: c.output,
		}.bytes())
		a, err := invoke(t.Context(), e, hash, "")
		if c.status == 0 {
			if f := fault.From(err); f == nil || f.Kind != fault.InvalidResponse || !strings.Contains(f.Message, c.want) {
				t.Errorf("%s: %+v", c.output, f)
			}
			continue
		}
		if err != nil || a.Status != c.status || a.header("Content-Type") != c.kind || a.body.String() != c.want {
			t.Errorf("%s: %d %q %s, %v", c.output, a.Status, a.header("Content-Type"), a.body.String(), err)
		}
	}
}

// An instance serves call after call, until one fails.
func TestInstances(t *testing.T) {
	t.Parallel()
	e := wasm.New()
	const text = `{"body":0}`
	count := code(i(len(text)-2, len(text)-2), []byte{0x2d, 0, 0}, i(1), []byte{0x6a, 0x3a, 0, 0}) // the digit is one more each time
	load(t, e, "count", module{
		imports: []imported{{"picloud", "input", 2, 1}, {"picloud", "output", 2, 0}},
		functions: []function{{export: "handle", code: code(count, i(0, len(text)), call(1),
			i(0, 0), call(0), i(800), []byte{0x4a, 0x04, 0x40, 0x00, 0x0b})}}, // a long input traps
		data: text,
	}.bytes())
	for n, c := range []struct{ body, want string }{
		{"", "1"}, {"", "2"}, {strings.Repeat("x", 1000), ""}, {"", "1"}, {"", "2"},
	} {
		a, err := invoke(t.Context(), e, "count", c.body)
		if a.body.String() != c.want || (err != nil) != (c.want == "") {
			t.Errorf("call %d: %s, %v", n, a.body.String(), err)
		}
	}
}

// A bundle can be unloaded and loaded while it runs.
func TestUnloadWhileRunning(t *testing.T) {
	t.Parallel()
	e := wasm.New()
	for form, entry := range map[string]string{"command": "_start", "reactor": "handle"} {
		m := module{imports: []imported{{"picloud", "sleep", 1, 0}}, functions: []function{{export: entry, code: code(i(1), call(0))}}}.bytes()
		load(t, e, form, m)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 50 {
					if _, err := invoke(t.Context(), e, form, ""); err != nil && !strings.Contains(err.Error(), "not loaded") {
						t.Error(err)
					}
				}
			})
		}
		for range 20 {
			e.Unload(form)
			load(t, e, form, m)
		}
		all.Wait()
	}
}

func TestRefusedModules(t *testing.T) {
	t.Parallel()
	e := wasm.New()
	fine := module{functions: []function{{export: "handle"}}}.bytes()
	table := func(bounds ...byte) []byte { return append([]byte{0x70}, bounds...) }
	for name, c := range map[string]struct {
		module []byte
		says   string
	}{
		"empty":        {nil, "it is no WebAssembly module"},
		"component":    {[]byte("\x00asm\x0d\x00\x01\x00"), "components are not supported"},
		"cut":          {fine[:len(fine)-3], "ends too early"},
		"large":        {make([]byte, 12<<20+1), "more than 12582912"},
		"no function":  {module{functions: []function{{export: "main"}}}.bytes(), "neither _start"},
		"parameters":   {module{functions: []function{{export: "handle", params: 1}}}.bytes(), "no parameters"},
		"not valid":    {module{functions: []function{{export: "handle", code: drop}}}.bytes(), "not valid"},
		"imports":      {module{imports: []imported{{"env", "f", 0, 0}, {"picloud", "cancelled", 0, 1}}, functions: []function{{export: "handle"}}}.bytes(), "env.f, picloud.cancelled"},
		"other import": {module{imports: []imported{{"picloud", "sleep", 2, 0}}, functions: []function{{export: "handle"}}}.bytes(), "picloud.sleep (with other parameters)"},
		"memory":       {module{pages: 2000, functions: []function{{export: "handle"}}}.bytes(), "more than 64 MB of memory"},
		"table":        {module{table: table(0, 0x80, 0x80, 0x80, 0x40), functions: []function{{export: "handle"}}}.bytes(), "elements, more than"},
		"stop":         {module{functions: []function{{export: "picloud: stop"}, {export: "handle"}}}.bytes(), "not valid"},
		"start traps":  {module{start: 1, functions: []function{{export: "handle"}, {code: unreachable}}}.bytes(), "trapped: unreachable"},
		"initialiser":  {module{functions: []function{{export: "handle"}, {export: "_initialize", code: unreachable}}}.bytes(), "trapped: unreachable"},
		"instruction":  {module{functions: []function{{export: "handle", code: []byte{0xfe, 0, 0}}}}.bytes(), "instruction 0xfe is not supported"},
	} {
		loaded, err := e.Load(t.Context(), bundle(name, c.module))
		if f := fault.From(err); f == nil || f.Kind != fault.Compile || f.Origin != fault.Script || len(loaded.Diagnostics) != 1 ||
			!strings.Contains(loaded.Diagnostics[0].Message, c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
