package yaegi_test

import (
	"bytes"
	"context"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/picloud/picloud/plugins/engine/yaegi"
	"github.com/picloud/picloud/sdk/fault"
)

// What would end the process of a Go program, or take all of a machine, ends the run that does it, with a name: the next
// call works, and another script goes on meanwhile.
func TestContained(t *testing.T) {
	defer collect()
	e := yaegi.New()
	load(t, e, "neighbour", script(nil, `n := 0; for i := 0; i < 1000; i++ { n += i }; return n, nil`))
	for name, c := range map[string]struct {
		imports []string
		body    string
		kind    fault.Kind
	}{
		"recursion":               {nil, `return down(1), nil`, fault.Limit},
		"recursion in a closure":  {nil, `var f func(int) int; f = func(n int) int { return f(n+1) + 1 }; return f(1), nil`, fault.Limit},
		"recursion of two":        {nil, `return ping(1), nil`, fault.Limit},
		"recursion and recover":   {nil, `defer func() { recover() }(); return down(1), nil`, fault.Limit},
		"append":                  {nil, `var a [][]byte; for { a = append(a, make([]byte, 1<<20)) }`, fault.Limit},
		"small appends":           {nil, `var a []int; for { a = append(a, 1) }`, fault.Limit},
		"growing text":            {nil, `s := "x"; for { s += s }`, fault.Limit},
		"growing slice":           {nil, `a := []byte("x"); for { a = append(a, a...) }`, fault.Limit},
		"growing map":             {nil, `m := map[int]string{}; for i := 0; ; i++ { m[i] = "some text" }`, fault.Limit},
		"one large value":         {nil, `n := 16; return len(make([]byte, n<<30)), nil`, fault.Limit},
		"one large map":           {nil, `n := 1; return len(make(map[int]int, n<<40)), nil`, fault.Limit},
		"repeat":                  {[]string{"strings"}, `return len(strings.Repeat("x", 16<<30)), nil`, fault.Limit},
		"repeat, caught":          {[]string{"bytes"}, `func() { defer func() { recover() }(); bytes.Repeat([]byte("x"), 16<<30) }(); return 1, nil`, ""},
		"panic in a goroutine":    {nil, `go func() { panic("beside") }(); select {}`, fault.ScriptPanic},
		"nil map in a goroutine":  {nil, `go func() { var m map[string]int; m["a"] = 1 }(); select {}`, fault.ScriptPanic},
		"goroutine bomb":          {nil, `for { go func() { <-make(chan int) }() }`, fault.Limit},
		"goroutine tree":          {nil, `tree(); select {}`, fault.Limit},
		"recursion beside":        {nil, `go down(1); select {}`, fault.Limit},
		"memory beside":           {nil, `go func() { var a [][]byte; for { a = append(a, make([]byte, 1<<20)) } }(); select {}`, fault.Limit},
		"goroutine left looping":  {nil, `go func() { for {} }(); return 1, nil`, ""},
		"goroutine left sleeping": {[]string{"time"}, `go func() { ctx.Sleep(time.Hour) }(); return 1, nil`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			load(t, e, name, script(c.imports, "if ctx.Request.Body[0] == 'g' { return 1, nil }\n"+c.body)+`
func down(n int) int { return down(n+1) + 1 }
func ping(n int) int { return pong(n+1) + 1 }
func pong(n int) int { return ping(n+1) + 1 }
func tree() { go tree(); go tree(); <-make(chan int) }
`)
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				_, err := invoke(ctx, e, name, "stop")
				cancel()
				switch f := fault.From(err); {
				case c.kind == "" && err != nil, c.kind != "" && (f == nil || f.Kind != c.kind || f.Origin != fault.Script):
					t.Fatalf("%+v", f)
				}
				for _, again := range []string{name, "neighbour"} {
					if _, err := invoke(t.Context(), e, again, "go"); err != nil {
						t.Fatalf("the next call of %s: %v", again, err)
					}
				}
			}
		})
	}
}

// collect waits until what stopped runs held is gone and none is deep in a recursion, as they end beside: the tests share a process, in
// which others shall not be blamed for it, and goleak cannot read a stack of which frames are elided.
func collect() {
	used := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/gc/heap/live:bytes"}}
	stacks := make([]byte, 16<<20)
	for {
		runtime.GC()
		metrics.Read(used)
		deep := bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte(" frames elided..."))
		if !deep && used[0].Value.Uint64() <= 16<<20 && used[1].Value.Uint64() <= 64<<20 {
			return
		}
	}
}

// Initialisers are contained like runs.
func TestContainedInitialisers(t *testing.T) {
	defer collect()
	for name, c := range map[string]string{
		"recursion": "var x = down(1)\nfunc down(n int) int { return down(n+1) + 1 }\n",
		"append":    "var x = fill()\nfunc fill() int { var a [][]byte; for { a = append(a, make([]byte, 1<<20)) } }\n",
		"goroutine": "func init() { go func() { select {} }() }\n",
		"panic":     "func init() { c := make(chan int); go func() { panic(\"beside\") }(); <-c }\n",
	} {
		_, err := yaegi.New().Load(t.Context(), bundle(name, script(nil, "return 1, nil")+c))
		if f := fault.From(err); f == nil || f.Kind != fault.Compile || f.Origin != fault.Script {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A load that is stopped ends, wherever in it that happens: between one initialiser and the next, or before the first.
func TestStoppedLoadEnds(t *testing.T) {
	before := goleak.IgnoreCurrent()
	src := script(nil, "return 1, nil") + `
var x = spin()
func spin() int { for {} }
func init() { for {} }
func init() { spin() }
`
	for _, after := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 50 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		if _, err := yaegi.New().Load(ctx, bundle("spin", src)); err == nil {
			t.Error("it was loaded")
		}
		cancel()
	}
	noneIsLeft(t, before)
}

// noneIsLeft waits for the end of what goes on beside a run that was stopped, or was done: goleak has less than half a second for it, of which
// a loop that is about to look whether it may go on gets little on a busy machine.
func noneIsLeft(t *testing.T, before goleak.Option) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		err := goleak.Find(before)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
