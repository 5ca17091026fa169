package js_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/picloud/picloud/plugins/engine/js"
	"github.com/picloud/picloud/sdk/fault"
)

// soon is the time that a run has which nothing but its end stops.
const soon = 20 * time.Millisecond

// Whatever a script does, its run ends with a name, the next call works, and another script goes on meanwhile.
func TestContained(t *testing.T) {
	e := js.New()
	load(t, e, handler("neighbour", "let n = 0; for (let i = 0; i < 1000; i++) n += i; return n"))
	for name, c := range map[string]struct {
		body string
		kind fault.Kind // none: it answers
	}{
		"loop":                   {`for (;;);`, fault.Deadline},
		"loop in a callback":     {`[3, 2, 1].sort(() => { for (;;); })`, fault.Deadline},
		"catch and loop":         {`for (;;) { try { for (;;); } catch {} finally { ctx.log.debug("again") } }`, fault.Deadline},
		"loop in finally":        {`try { for (;;); } finally { for (;;); }`, fault.Deadline},
		"loop with logs":         {`for (;;) { try { ctx.log.info("x") } catch {} }`, fault.Deadline},
		"loop in a getter":       {`return { get a() { for (;;); } }`, fault.Deadline},
		"loop in then":           {`return { get then() { for (;;); } }`, fault.Deadline},
		"loop in toJSON":         {`return { toJSON() { for (;;); } }`, fault.Deadline},
		"loop in a proxy":        {`return new Proxy({}, { get() { for (;;); } })`, fault.Deadline},
		"loop in what is thrown": {`throw new Proxy({}, { getPrototypeOf() { for (;;); } })`, fault.Deadline},
		"loop in a message":      {`const e = new Error(); Object.defineProperty(e, "message", { get() { for (;;); } }); throw e`, fault.Deadline},
		"loop in a status":       {`return new Response("", { status: { valueOf() { for (;;); } } })`, fault.Deadline},
		"loop in a log":          {`ctx.log.info("x", { toJSON() { for (;;); } })`, fault.Deadline},
		"loop in a timer":        {`setTimeout(() => { for (;;); }); await ctx.sleep(1e9)`, fault.Deadline},
		"loop in a name":         {`await ctx.invoke({ toString() { for (;;); } })`, fault.Deadline},
		"endless microtasks":     {`for (;;) await null`, fault.Deadline},
		"microtasks left":        {`(async () => { for (;;) await null })(); return 1`, fault.Deadline},
		"microtasks breed":       {`const f = () => queueMicrotask(f); f(); return 1`, fault.Deadline},
		"endless timers":         {`const f = () => setTimeout(f); f(); await ctx.sleep(1e9)`, fault.Deadline},
		"sleep":                  {`await ctx.sleep(1e300)`, fault.Deadline},
		"generator":              {`function* g() { for (;;) yield 1 } for (const x of g());`, fault.Deadline},
		"pattern":                {`return /^(a+)+$/.test("a".repeat(40) + "b")`, fault.Deadline},
		"stuck":                  {`await new Promise(() => {})`, fault.ScriptError},
		"recursion":              {`function f(n) { return f(n + 1) + 1 } return f(1)`, fault.Limit},
		"recursion in a closure": {`const f = (n) => f(n + 1) + 1; return f(1)`, fault.Limit},
		"recursion by map":       {`const f = (n) => [n].map(() => f(n + 1)); return f(0)`, fault.Limit},
		"recursion by toJSON":    {`const o = { toJSON() { return { o: JSON.parse(JSON.stringify(o)) } } }; JSON.stringify(o)`, fault.Limit},
		"recursion by a proxy":   {`const p = new Proxy({}, { get: (t, k) => p[k] }); return p.x`, fault.Limit},
		"recursion by sort":      {`const f = () => [2, 1].sort(f); f()`, fault.Limit},
		"recursion of awaits":    {`const f = async () => { await f() }; await f()`, fault.Limit},
		"recursion, generators":  {`function* g() { yield* g() } for (const x of g());`, fault.Limit},
		"recursion by replace":   {`const f = () => "a".replace(/a/, f); f()`, fault.Limit},
		"recursion, caught":      {`const f = () => f(); try { f() } catch { return 1 }`, ""},
		"deep result":            {`let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a`, fault.Limit},
		"deep JSON":              {`JSON.parse("[".repeat(1e5))`, fault.ScriptError},
		"deep source":            {`eval("(".repeat(1e5))`, fault.ScriptError},
		"deep pattern":           {`new RegExp("(?:".repeat(1e5))`, fault.ScriptError},
		"arrays":                 {`const a = []; for (;;) a.push(new Array(1000).fill(1))`, fault.Limit},
		"small arrays":           {`const a = []; for (;;) a.push([])`, fault.Limit},
		"numbers":                {`const a = []; for (;;) a.push(1.5)`, fault.Limit},
		"growing text":           {`let s = "x"; const a = []; for (;;) a.push(s = (s + s).slice(0, 1e5) + a.length)`, fault.Limit},
		"growing map":            {`const m = new Map(); for (let i = 0; ; i++) m.set(i, "text" + i)`, fault.Limit},
		"buffers":                {`const a = []; for (;;) a.push(new ArrayBuffer(1e6))`, fault.Limit},
		"closures":               {`const a = []; for (;;) a.push(() => a)`, fault.Limit},
		"memory, caught":         {`const a = []; for (;;) { try { a.push(new ArrayBuffer(1e6)) } catch { a.length = 0; return 1 } }`, ""},
		"one large buffer":       {`return new ArrayBuffer(16 * 2 ** 30).byteLength`, fault.ScriptError},
		"one large text":         {`return "x".repeat(2 ** 29).length`, fault.Limit},
		"larger than texts are":  {`return "x".repeat(2 ** 45).length`, fault.ScriptError},
		"one large array":        {`return new Array(1e8).fill(0).length`, fault.Limit},
		"large numbers":          {`return 2n ** 10_000_000n`, fault.ScriptError},
		"promises":               {`const p = []; for (;;) p.push(new Promise(() => {}))`, fault.Limit},
		"rejections":             {`for (;;) Promise.reject(1)`, fault.Limit},
		"timers":                 {`for (;;) setTimeout(() => {}, 1e6)`, fault.Limit},
		"calls":                  {`for (;;) ctx.invoke("s")`, fault.Limit},
		"giant result":           {`return "x".repeat(100_000)`, fault.Limit},
		"giant log":              {`ctx.log.info("x".repeat(1 << 20)); return 1`, ""},
		"blocking":               {`Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)`, fault.ScriptError},
		"wrong types":            {`setTimeout(1)`, fault.ScriptError},
		"no interpreter's own":   {`ctx.log.info.constructor("return $host")()`, fault.ScriptError},
	} {
		t.Run(name, func(t *testing.T) {
			b := handler(name, "if (ctx.request.text() === \"go\") return 1;\n"+c.body)
			b.Limits.Memory = 4 << 20
			b.Limits.Goroutines, b.Limits.BodyBytes = 200, 64<<10
			load(t, e, b)
			for range 3 {
				limit := time.Minute
				if c.kind == fault.Deadline {
					limit = soon
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				var beside sync.WaitGroup
				beside.Go(func() {
					if _, err := invoke(t.Context(), e, "neighbour", ""); err != nil {
						t.Errorf("meanwhile: %v", err)
					}
				})
				_, err := call(ctx, e, name, "stop", func(ctx context.Context, _, _ string, _ []byte) ([]byte, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				})
				cancel()
				beside.Wait()
				switch f := fault.From(err); {
				case c.kind == "" && err != nil, c.kind != "" && (f == nil || f.Kind != c.kind || f.Origin != fault.Script):
					t.Fatalf("%+v", f)
				}
				if _, err := invoke(t.Context(), e, name, "go"); err != nil {
					t.Fatalf("the next call: %v", err)
				}
			}
		})
	}
}

// What there is to reach from a script is listed here: nothing of the machine.
func TestReach(t *testing.T) {
	t.Parallel()
	e := js.New()
	load(t, e, handler("h", `
		const seen = new Set(Object.getOwnPropertyNames(globalThis));
		for (const known of "`+language+`".split(" ")) seen.delete(known);
		return [...seen].sort().join(" ");`))
	a, err := invoke(t.Context(), e, "h", "")
	want := `"BatchResult Fatal PicloudError Response RetryAfter TextDecoder TextEncoder URL URLSearchParams VERSION atob btoa clearTimeout console crypto queueMicrotask setTimeout structuredClone"`
	if err != nil || a.body.String() != want {
		t.Errorf("%s, %v", a.body.String(), err)
	}
}

// language is what ECMAScript has.
const language = "Error EvalError RangeError ReferenceError SyntaxError TypeError URIError InternalError AggregateError Array Object Function " +
	"Iterator parseInt parseFloat isNaN isFinite decodeURI decodeURIComponent encodeURI encodeURIComponent escape unescape Infinity NaN " +
	"undefined eval Number Boolean String Math Reflect Symbol globalThis BigInt Date RegExp JSON Proxy Map Set WeakMap WeakSet ArrayBuffer " +
	"SharedArrayBuffer Uint8ClampedArray Int8Array Uint8Array Int16Array Uint16Array Int32Array Uint32Array BigInt64Array BigUint64Array " +
	"Float16Array Float32Array Float64Array DataView Atomics Promise WeakRef FinalizationRegistry"
