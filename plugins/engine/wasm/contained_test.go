package wasm_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/picloud/picloud/plugins/engine/wasm"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

const wasi = "wasi_snapshot_preview1"

// What the attacks import, by number, and where their own functions begin.
var (
	offered = []imported{
		{"picloud", "input", 2, 1},
		{"picloud", "output", 2, 0},
		{"picloud", "log", 5, 0},
		{"picloud", "call", 6, 1},
		{"picloud", "result", 2, 1},
		{"picloud", "sleep", 1, 0},
		{wasi, "proc_exit", 1, 0},
		{wasi, "fd_write", 4, 1},
		{wasi, "poll_oneoff", 4, 1},
		{wasi, "random_get", 2, 1},
		{wasi, "fd_close", 1, 1},
		{wasi, "fd_renumber", 2, 1},
		{wasi, "path_open", 9, 1}, // in truth some of them are i64: a module that says so is refused
	}[:12]
	helper = len(offered) + 1 // the function after the entry
)

const (
	input = iota
	output
	logLine
	callService
	result
	sleep
	exit
	write
	poll
	random
	closeFile
	renumber
)

const far = 0x7fff0000 // beyond any memory that an instance may have

// attacks are bodies of an entry, with what they end with. Memory begins with the vector {16, 64} of fd_write, and holds a subscription to
// a clock at 128.
var attacks = map[string]struct {
	code   []byte
	helper []byte
	kind   fault.Kind
}{
	"loop":              {code: forever, kind: fault.Deadline},
	"loop in a helper":  {code: call(helper), helper: forever, kind: fault.Deadline},
	"calls, no loop":    {code: code(i(40), set(0), get(0), call(helper)), helper: tree, kind: fault.Deadline},
	"sleep":             {code: code(i(-1), call(sleep)), kind: fault.Deadline},
	"poll":              {code: code(i(128, 512, 1, 600), call(poll), drop), kind: fault.Deadline},
	"sleeps":            {code: code(loop, i(1), call(sleep), again, end), kind: fault.Deadline},
	"random":            {code: code(loop, i(0, 60<<10), call(random), drop, again, end), kind: fault.Deadline},
	"fills":             {code: code(grow(900), drop, loop, i(0, 1, 900<<16), []byte{0xfc, 11, 0}, again, end), kind: fault.Deadline},
	"log flood":         {code: code(loop, i(2, 0, 1000, 0, 0), call(logLine), again, end), kind: fault.Deadline},
	"stderr flood":      {code: code(loop, i(2, 0, 1, 600), call(write), drop, again, end), kind: fault.Deadline},
	"service flood":     {code: code(loop, i(0, 4, 0, 4, 0, 60<<10), call(callService), drop, again, end), kind: fault.Deadline},
	"closed files":      {code: code(i(2), call(closeFile), drop, i(1), call(closeFile), drop, i(0, 1<<30), call(renumber), drop, forever), kind: fault.Deadline},
	"recursion":         {code: code(i(1), call(helper)), helper: code(get(0), call(helper)), kind: fault.Limit},
	"output flood":      {code: code(loop, i(0, 60<<10), call(output), again, end), kind: fault.Limit},
	"memory":            {code: code(grow(4000), i(-1), []byte{0x46, 0x04, 0x40, 0x00, 0x0b}), kind: fault.Limit},
	"memory, in steps":  {code: code(loop, grow(1), i(-1), []byte{0x46, 0x04, 0x40, 0x00, 0x0b}, again, end), kind: fault.Limit},
	"memory, then exit": {code: code(grow(4000), drop, i(2), call(exit)), kind: fault.Limit},
	"unreachable":       {code: unreachable, kind: fault.ScriptPanic},
	"division":          {code: code(i(1, 0), []byte{0x6d}, drop), kind: fault.ScriptPanic},
	"load":              {code: code(i(far), []byte{0x28, 0, 0}, drop), kind: fault.ScriptPanic},
	"exit":              {code: code(i(3), call(exit)), kind: fault.ScriptError},
	"exit -1":           {code: code(i(-1), call(exit)), kind: fault.ScriptError},
	"exit as if late":   {code: code(i(0xefffffff), call(exit)), kind: fault.ScriptError},
	"input to nowhere":  {code: code(i(far, 8), call(input), drop), kind: fault.ScriptPanic},
	"input, too long":   {code: code(i(8, -1), call(input), drop), kind: fault.ScriptPanic},
	"output":            {code: code(i(-8, 16), call(output)), kind: fault.ScriptPanic},
	"log":               {code: code(i(2, far, 8, 0, 0), call(logLine)), kind: fault.ScriptPanic},
	"log data":          {code: code(i(2, 0, 8, 8, -1), call(logLine)), kind: fault.ScriptPanic},
	"log level":         {code: code(i(-1, 0, 8, 0, 0), call(logLine)), kind: fault.ScriptPanic},
	"service":           {code: code(i(far, 1, 0, 1, 0, 1), call(callService), drop), kind: fault.ScriptPanic},
	"method":            {code: code(i(0, 1, far, 1, 0, 1), call(callService), drop), kind: fault.ScriptPanic},
	"arguments":         {code: code(i(0, 1, 0, 1, 0, -1), call(callService), drop), kind: fault.ScriptPanic},
	"result":            {code: code(i(0, 4, 0, 4, 0, 1), call(callService), drop, i(far, 8), call(result), drop), kind: fault.ScriptPanic},
	"long names":        {code: code(i(0, 60<<10, 0, 60<<10, 0, 0), call(callService), []byte{0x45, 0x04, 0x40, 0x00, 0x0b}), kind: ""},
	"poll of nothing":   {code: code(i(far, far, 9, far), call(poll), drop), kind: ""},
}

// tree calls itself twice, one less deep each: 2^40 calls that end only one by one.
var tree = code(get(0), []byte{0x04, 0x40}, get(0), i(1), []byte{0x6b}, call(helper), get(0), i(1), []byte{0x6b}, call(helper), end)

// Whatever a module does, in a run or before one, that ends with a name; the next call works, and another script meanwhile.
func TestContained(t *testing.T) {
	e := wasm.New()
	load(t, e, "neighbour", module{functions: []function{{export: "handle"}}}.bytes())
	data := fmt.Sprintf("%s%0120d", "\x10\x00\x00\x00\x40\x00\x00\x00", 0) + // the vector
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\x00"
	for _, entry := range []string{"_start", "handle", "_initialize", "start"} {
		for name, c := range attacks {
			t.Run(entry+"/"+name, func(t *testing.T) {
				m := module{imports: offered, data: data + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", functions: []function{
					{export: entry, locals: 1, code: c.code}, {params: 1, code: c.helper},
				}}
				if early := entry == "_initialize" || entry == "start"; early {
					m.functions = append(m.functions, function{export: "handle"})
				}
				if entry == "start" {
					m.start, m.functions[0].export = len(offered), ""
				}
				for range 3 {
					contained(t, e, m.bytes(), c.kind)
				}
			})
		}
	}
}

// contained loads and runs a module, of which one must fail as kind says; none: both do well.
func contained(t *testing.T, e engine.Engine, attack []byte, kind fault.Kind) {
	t.Helper()
	limit := 2 * time.Minute
	if kind == fault.Deadline {
		limit = 30 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	// Whether an attack is made when a module is loaded is not told: the deadline may come in the middle of compiling it.
	soon, stop := context.WithTimeout(ctx, limit)
	defer stop()
	_, err := e.Load(soon, bundle("attack", attack))
	defer e.Unload("attack")
	f := fault.From(err)
	switch {
	case f != nil && (f.Kind != fault.Compile || kind == ""):
		t.Fatalf("load: %+v", f)
	case f == nil:
		soon, stop := context.WithTimeout(ctx, limit)
		defer stop()
		_, err := invoke(soon, e, "attack", "body")
		if f := fault.From(err); (kind != "" || f != nil) && (f == nil || f.Kind != kind || f.Origin != fault.Script) {
			t.Fatalf("%+v", f)
		}
	}
	if ctx.Err() != nil {
		t.Fatal("it took too long")
	}
	if _, err := invoke(t.Context(), e, "neighbour", ""); err != nil {
		t.Fatalf("the next call: %v", err)
	}
}

// The memory of all runs together has a bound, idle instances go first, and all of it comes back.
func TestMemoryTogether(t *testing.T) {
	e := wasm.New()
	grown := module{imports: []imported{{"picloud", "call", 6, 1}}, functions: []function{{export: "handle", code: code(
		grow(900), i(-1), []byte{0x46, 0x04, 0x40, 0x00, 0x0b}, i(0, 0, 0, 0, 0, 0), call(0), drop)}}, pages: 64}.bytes()
	const runs = 16
	for _, hash := range []string{"one", "other"} { // what one has left idle is in the way of the other
		load(t, e, hash, grown)
		ends, holds, release := make(chan error, runs), make(chan struct{}, runs), make(chan struct{})
		for range runs {
			go func() {
				ends <- e.Invoke(t.Context(), &engine.Invocation{
					Bundle: hash, Event: &event.Envelope{}, Log: func(engine.Log) {},
					Call: func(context.Context, string, string, []byte) ([]byte, error) {
						holds <- struct{}{}
						<-release
						return nil, nil
					},
				}, sink{&answer{}})
			}()
		}
		held, refused := 0, 0
		for held+refused < runs {
			select {
			case <-holds:
				held++
			case err := <-ends:
				refused++
				if f := fault.From(err); f == nil || f.Kind != fault.Limit {
					t.Errorf("%+v", f)
				}
			}
		}
		close(release)
		for range held {
			if err := <-ends; err != nil {
				t.Error(err)
			}
		}
		if held < 7 || held > 8 {
			t.Errorf("%d runs of %s had their 60 MB", held, hash)
		}
	}
}
