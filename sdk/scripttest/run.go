package scripttest

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"reflect"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/fault"
)

// Suite is what an engine brings to Run.
type Suite struct {
	New func() engine.Engine
	// Extension is that of the engine's scripts, ".go".
	Extension string
	// Scripts holds a script for each case, see the function Scripts; nil: those.
	Scripts fs.FS
	// Without names the cases that the engine does not keep, each with the reason.
	Without map[string]string
	// Build makes what the engine loads of a case's script, where that is something else.
	Build func(tb testing.TB, c *Case, b engine.Bundle) engine.Bundle
}

// Run checks that an engine keeps every promise of the contract, through a session like that of a plugin process.
func Run(t *testing.T, s Suite) {
	known := map[string]bool{}
	for _, c := range Cases() {
		known[c.Name] = true
		if _, left := s.Without[c.Name]; !left {
			t.Run(c.Name, func(t *testing.T) { s.run(t, &c) })
		}
	}
	for name, reason := range s.Without {
		if !known[name] || reason == "" {
			t.Errorf("%q is no case that can be left out for the reason %q", name, reason)
		}
	}
}

// bundle makes what the engine loads for a case.
func (s Suite) bundle(tb testing.TB, c *Case) engine.Bundle {
	tb.Helper()
	scripts := s.Scripts
	if scripts == nil {
		scripts = Scripts()
	}
	files := func(name string) []engine.File {
		data, err := fs.ReadFile(scripts, name+s.Extension)
		if err != nil {
			tb.Fatalf("the case has no script for this engine: %v", err)
		}
		return []engine.File{{Name: name + s.Extension, Data: data}}
	}
	b := engine.Bundle{Hash: c.Name, Script: c.Name, Files: files(c.Name), Limits: c.Limits}
	for _, name := range c.Modules {
		m := engine.Module{Name: name, Files: files(c.Name + "." + name)}
		m.Files[0].Name = name + s.Extension
		b.Modules = append(b.Modules, m)
	}
	if s.Build != nil {
		b = s.Build(tb, c, b)
	}
	return b
}

func (s Suite) run(t *testing.T, c *Case) {
	settle()
	client := enginetest.Dial(t, s.New())
	b := s.bundle(t, c)
	if loaded, err := client.Load(t.Context(), b); err != nil {
		t.Fatalf("load: %v %+v", err, loaded.Diagnostics)
	}
	t.Cleanup(func() { // ends what the engine keeps running for it
		if err := client.Unload(context.Background(), b.Hash); err != nil {
			t.Error(err)
		}
	})
	e := c.Event
	if e == nil {
		e = hello
	}
	envelope, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	seen := &recorder{t: t, calls: c.Calls}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var a enginetest.Answer
	err = client.Invoke(ctx, &engine.Request{
		Bundle: b.Hash, ExecutionID: "x1", Attempt: 3, Envelope: envelope, Body: []byte(c.Body), Log: seen.log, Call: seen.call,
	}, &a)
	seen.done()
	if c.Logs != nil && !slices.Equal(seen.lines, c.Logs) {
		t.Errorf("logged %q\nnot    %q", seen.lines, c.Logs)
	}
	if c.Fault != nil {
		checkFault(t, c.Fault, err)
		return
	}
	if err != nil {
		t.Fatalf("failed: %+v", fault.From(err))
	}
	checkAnswer(t, c, &a)
}

// settle returns when what runs before took is gone. In a process of its own an engine bears with that, but the tests share one.
func settle() {
	used := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/gc/heap/live:bytes"}}
	for metrics.Read(used); used[0].Value.Uint64() > 16<<20 || used[1].Value.Uint64() > 64<<20; metrics.Read(used) {
		runtime.GC()
	}
}

func checkFault(t *testing.T, want *Fault, err error) {
	t.Helper()
	f := fault.From(err)
	switch {
	case f == nil:
		t.Error("the run did not fail")
	case !slices.Contains(want.Kinds, f.Kind), f.Origin != fault.Script, !strings.Contains(f.Message, want.Says),
		f.RetryAfter != want.RetryAfter, f.Fatal != want.Fatal:
		t.Errorf("failed with %+v\nnot         %+v", f, want)
	}
}

func checkAnswer(t *testing.T, c *Case, a *enginetest.Answer) {
	t.Helper()
	heads := a.Heads()
	if len(heads) != 1 {
		t.Fatalf("%d heads", len(heads))
	}
	if heads[0].Status != c.Status {
		t.Errorf("status %d, not %d", heads[0].Status, c.Status)
	}
	headers := map[string]string{}
	for _, h := range heads[0].Headers {
		if before, more := headers[h.Name]; more {
			h.Value = before + ", " + h.Value
		}
		headers[h.Name] = h.Value
	}
	for name, want := range c.Headers {
		if headers[name] != want {
			t.Errorf("the header %s is %q, not %q", name, headers[name], want)
		}
	}
	if body := a.Body(); body != c.Answer && !sameJSON(body, c.Answer) {
		t.Errorf("answered %q\nnot      %q", body, c.Answer)
	}
}

// sameJSON reports whether two texts are JSON of the same meaning. A delivery that asks for nothing is none.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil &&
		reflect.DeepEqual(plainDelivery(x), plainDelivery(y))
}

// plainDelivery removes deliveries that ask for nothing.
func plainDelivery(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if d, ok := v["delivery"].(map[string]any); ok && len(d) == 0 {
			delete(v, "delivery")
		}
		for _, part := range v {
			plainDelivery(part)
		}
	case []any:
		for _, part := range v {
			plainDelivery(part)
		}
	}
	return v
}

// recorder is the host of one run: it answers calls as the case says, and keeps what is logged.
type recorder struct {
	t     *testing.T
	mu    sync.Mutex
	calls []Call // still to come
	lines []string
}

func (r *recorder) log(lines []engine.Log) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range lines {
		r.lines = append(r.lines, fmt.Sprintf("%s %s %s", l.Level, l.Message, l.Data))
	}
}

func (r *recorder) call(_ context.Context, service, method string, args []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.calls) == 0 {
		r.t.Errorf("asked for %s.%s %s", service, method, args)
		return nil, fault.New(fault.NotFound, fault.Script, "there is nothing more")
	}
	want := r.calls[0]
	r.calls = r.calls[1:]
	if got := service + "." + method; got != want.Name || !sameJSON(string(args), want.Args) {
		r.t.Errorf("asked for %s %s\nnot       %s %s", got, args, want.Name, want.Args)
	}
	if want.Fault != nil {
		return nil, want.Fault
	}
	return []byte(want.Result), nil
}

func (r *recorder) done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		r.t.Errorf("never asked for %s %s", c.Name, c.Args)
	}
}
