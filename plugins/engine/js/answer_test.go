package js_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/picloud/picloud/plugins/engine/js"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	e := js.New()
	for name, c := range map[string]struct {
		body   string
		status int
		kind   string
		want   string
	}{
		"object":          {`return { a: 1, b: ["x", null, true, 1.5], c: undefined }`, 200, "application/json", `{"a":1,"b":["x",null,true,1.5]}`},
		"nothing":         {``, 204, "", ""},
		"null":            {`return null`, 204, "", ""},
		"text":            {`return "hi"`, 200, "application/json", `"hi"`},
		"bytes as JSON":   {`return Response.json("hi")`, 200, "application/json", `"hi"`},
		"response":        {`return new Response("hi", { status: 201, headers: { "x-a": "1", "X-B": ["2", "3"] } })`, 201, "text/plain; charset=utf-8", "hi"},
		"response, bytes": {`return new Response(new Uint8Array([0, 255]))`, 200, "application/octet-stream", "\x00\xff"},
		"a view":          {`return new Response(new DataView(new Uint8Array([1, 65, 66]).buffer, 1))`, 200, "application/octet-stream", "AB"},
		"response, JSON":  {`return new Response([1])`, 200, "application/json", "[1]"},
		"no body":         {`return new Response(null, { status: 304 })`, 304, "", ""},
		"own type":        {`return new Response("<b>", { headers: { "content-type": "text/html" } })`, 200, "text/html", "<b>"},
		"JSON, own type":  {`return Response.json({}, { headers: { "Content-type": "application/x" } })`, 200, "application/x", "{}"},
		"imported":        {`const m = await import("picloud"); return m.Response === Response && m.VERSION === ctx.sdkVersion`, 200, "application/json", "true"},
		"thenable":        {`return { then(resolve) { resolve(3) } }`, 200, "application/json", "3"},
		"date":            {`return { at: new Date(0) }`, 200, "application/json", `{"at":"1970-01-01T00:00:00.000Z"}`},
		"numbers":         {`return [-0, 0.1 + 0.2, 1e21, 2 ** 53, NaN, Infinity, 9007199254740993]`, 200, "application/json", `[0,0.30000000000000004,1e+21,9007199254740992,null,null,9007199254740992]`},
		"texts":           {`return "ünï\u0000\u2028😀"`, 200, "application/json", "\"ünï\\u0000\u2028😀\""},
		"half a pair":     {`return new Response("a\ud800b")`, 200, "text/plain; charset=utf-8", "a\ufffdb"},
		"half, in JSON":   {`return "a\ud800b"`, 200, "application/json", `"a\ud800b"`},
		"request": {
			`const q = ctx.request;
			return [q.method, q.path, q.params.id, q.param("id"), q.param("none"), q.rest, q.query.q, q.queryValue("q"), q.queryValue("r"),
				q.headers.Accept, q.header("accept"), q.header("no"), q.header("__proto__"), q.json().n, q.text(), q.body.length, q.body instanceof Uint8Array,
				ctx.executionId, ctx.attempt, ctx.event.id, ctx.event.time, ctx.batch]`, 200, "application/json",
			`["POST","/users/7","7","7","","r/s",["1","2"],"1","",["a","b"],"a","","",3,"{\"n\":3}",7,true,"x1",2,"e1","1970-01-01T00:00:00Z",null]`,
		},
		"text coders": {
			`const b = new TextEncoder().encode("ü€😀\ud800");
			return [[...b], new TextDecoder().decode(b), new TextDecoder("UTF8").decode(b.subarray(0, 2).buffer.slice(0, 2)), new TextDecoder().decode(new Uint8Array([239, 187, 191, 65])),
				(() => { try { new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array([255])) } catch (e) { return e.name } })()]`,
			200, "application/json", `[[195,188,226,130,172,240,159,152,128,239,191,189],"ü€😀�","ü","A","TypeError"]`,
		},
		"base64": {`return [btoa("\u0000\u00ff"), atob("AP8=") === "\u0000\u00ff", (() => { try { btoa("€") } catch (e) { return e.name } })()]`, 200, "application/json", `["AP8=",true,"RangeError"]`},
		"clones": {
			`const a = { d: new Date(0), m: new Map([[1, new Set([2])]]), b: new Uint8Array([1, 2]), list: [1, , 3] };
			a.self = a;
			const c = structuredClone(a);
			return [c !== a, c.self === c, c.d.getTime(), [...c.m.get(1)], [...c.b], c.b !== a.b, 1 in c.list, (() => { try { structuredClone(() => 1) } catch (e) { return e.name } })()]`,
			200, "application/json", `[true,true,0,[2],[1,2],true,false,"TypeError"]`,
		},
		"random": {
			`const a = crypto.randomUUID(), b = crypto.randomUUID(), r = crypto.getRandomValues(new Uint32Array(64));
			return [/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(a), a !== b, new Set(r).size > 60]`,
			200, "application/json", `[true,true,true]`,
		},
		"replaced": {`JSON.stringify = () => "1"; Map.prototype.get = null; Object.prototype.then = 1; return { a: 2 }`, 200, "application/json", `{"a":2}`},
	} {
		load(t, e, handler(name, c.body))
		a, err := invoke(t.Context(), e, name, `{"n":3}`)
		kind := ""
		for _, h := range a.Headers {
			if h.Name == "Content-Type" {
				kind = h.Value
			}
		}
		if err != nil || a.Status != c.status || kind != c.kind || a.body.String() != c.want {
			t.Errorf("%s: %d %q %s, %+v", name, a.Status, kind, a.body.String(), err)
		}
		if !utf8.Valid(a.body.Bytes()) && !strings.Contains(name, "bytes") {
			t.Errorf("%s: not UTF-8", name)
		}
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	e := js.New()
	invalid := "what the script returned cannot be sent: "
	for name, c := range map[string]struct {
		body    string
		kind    fault.Kind
		message string
	}{
		"error":              {`throw new Error("no luck")`, fault.ScriptError, "no luck"},
		"without message":    {`throw new Error()`, fault.ScriptError, "Error"},
		"another error":      {`null.x`, fault.ScriptError, "TypeError: cannot read property 'x' of null"},
		"class of its own":   {`class Odd extends Error { name = "Odd" }; throw new Odd("x")`, fault.ScriptError, "Odd: x"},
		"text":               {`throw "text"`, fault.ScriptError, "text"},
		"object":             {`throw { code: 7 }`, fault.ScriptError, `{"code":7}`},
		"null":               {`throw null`, fault.ScriptError, "null"},
		"undefined":          {`throw undefined`, fault.ScriptError, "undefined"},
		"symbol":             {`throw Symbol("s")`, fault.ScriptError, "Symbol(s)"},
		"function":           {`throw () => 1`, fault.ScriptError, "() => 1"},
		"unshown":            {`throw { toJSON() { throw 1 } }`, fault.ScriptError, "the script threw what cannot be shown"},
		"stack":              {`const e = new Error("x"); Object.defineProperty(e, "stack", { get() { throw 1 } }); throw e`, fault.ScriptError, "x"},
		"message":            {`const e = new Error(); e.message = { toString() { throw 1 } }; throw e`, fault.ScriptError, "the script threw what cannot be shown"},
		"stuck":              {`await new Promise(() => {})`, fault.ScriptError, "handle waits for a promise that nothing will settle"},
		"floating":           {`(async () => { throw new Error("floating") })(); return 1`, fault.ScriptError, "floating"},
		"floating and stuck": {`Promise.reject(new Error("floating")); await new Promise(() => {})`, fault.ScriptError, "floating"},
		"timer":              {`setTimeout(() => { throw new Error("late") }); await ctx.sleep(3600_000)`, fault.ScriptError, "late"},
		"microtask":          {`queueMicrotask(() => { throw new Error("micro") }); return 1`, fault.ScriptError, "micro"},
		"JSON":               {`return ctx.request.json()`, fault.ScriptError, "SyntaxError: the body is not the JSON that is expected: unexpected token: 'body'"},
		"big":                {`return 10n`, fault.InvalidResponse, invalid + "TypeError: Do not know how to serialize a BigInt"},
		"a function":         {`return () => 1`, fault.InvalidResponse, invalid + "TypeError: a function has no form in JSON"},
		"circle":             {`const a = {}; a.a = a; return a`, fault.InvalidResponse, invalid + "TypeError: circular reference"},
		"toJSON":             {`return { toJSON() { throw new Error("no") } }`, fault.InvalidResponse, invalid + "no"},
		"status":             {`return new Response("", { status: 99 })`, fault.InvalidResponse, invalid + "the status 99 is not one from 200 to 599"},
		"odd status":         {`return new Response("", { status: "x" })`, fault.InvalidResponse, invalid + "the status -1 is not one from 200 to 599"},
		"headers":            {`return new Response("", { headers: { a: 1 } })`, fault.InvalidResponse, invalid + "headers are texts, or lists of them: a is 1"},
		"line break":         {`return new Response("", { headers: { "X-A": "a\r\nSet-Cookie: b" } })`, fault.InvalidResponse, invalid + "the value of the header X-A holds characters that HTTP does not allow"},
		"batch":              {`return new BatchResult([{ id: 1 }])`, fault.InvalidResponse, ""},
		"no list":            {`return new BatchResult(7)`, fault.InvalidResponse, invalid + "TypeError: a BatchResult takes a list"},
		"giant":              {`return "x".repeat(7 << 20)`, fault.Limit, "the answer has 7340034 bytes, more than 6291456"},
		"no module":          {`await import(ctx.executionId)`, fault.ScriptError, ""},
		"over":               {`const old = globalThis.old ??= ctx; if (old === ctx) throw new Error("first"); await old.invoke("s")`, fault.ScriptError, "first"},
	} {
		load(t, e, handler(name, c.body))
		_, err := invoke(t.Context(), e, name, "body")
		f := fault.From(err)
		if f == nil || f.Kind != c.kind || f.Origin != fault.Script || c.message != "" && f.Message != c.message {
			t.Errorf("%s: %+v", name, f)
		}
	}
	// What a run leaves in globals cannot act for it once it is over.
	if _, err := invoke(t.Context(), e, "over", ""); fault.From(err) == nil || err.Error() != "cancelled: the run is over" {
		t.Errorf("a context of an ended run: %v", err)
	}
}

func TestWishes(t *testing.T) {
	t.Parallel()
	e := js.New()
	for name, c := range map[string]struct {
		body  string
		after int64
		fatal bool
	}{
		"retry":    {`throw new RetryAfter("x", 1500)`, 1500, false},
		"of error": {`throw new RetryAfter(new Error("x"), 1500)`, 1500, false},
		"cause":    {`throw new Error("x", { cause: new RetryAfter("y", 10) })`, 10, false},
		"fatal":    {`throw new Fatal("x", { cause: new RetryAfter("y", 10) })`, 0, true},
		"circle":   {`const e = new Error("x"); e.cause = e; throw e`, 0, false},
		"nonsense": {`throw new RetryAfter("x", "soon")`, 0, false},
		"negative": {`throw new RetryAfter("x", -1)`, 0, false},
	} {
		load(t, e, handler(name, c.body))
		_, err := invoke(t.Context(), e, name, "")
		f := fault.From(err)
		if f == nil || f.Kind != fault.ScriptError || f.Message != "x" || f.RetryAfter.Milliseconds() != c.after || f.Fatal != c.fatal {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	e := js.New()
	load(t, e, handler("h", `
		console.log("a", 1, { b: 2 }, [3], undefined, null);
		console.error(new TypeError("odd"));
		ctx.log.warn("b", { n: 1 }, [2]);
		ctx.log.error(3, new Error("why"));
		ctx.log.debug("c", 10n);
		ctx.log.trace("d", undefined);
		ctx.log.info({ e: 1 }, () => 1);
		const round = {}, odd = { toJSON() { throw odd }, toString() { throw odd } };
		round.round = round;
		console.log(round, "f");
		ctx.log.info(odd, odd);`))
	a, err := invoke(t.Context(), e, "h", "")
	want := []engine.Log{
		{Level: "info", Message: `a 1 {"b":2} [3] undefined null`},
		{Level: "error", Message: "TypeError: odd"},
		{Level: "warn", Message: "b", Data: []byte(`[{"n":1},[2]]`)},
		{Level: "error", Message: "3", Data: []byte(`"Error: why"`)},
		{Level: "debug", Message: "c", Data: []byte(`"not logged: TypeError: Do not know how to serialize a BigInt"`)},
		{Level: "trace", Message: "d", Data: []byte(`"undefined"`)},
		{Level: "info", Message: `{"e":1}`, Data: []byte(`"() => 1"`)},
		{Level: "info", Message: `what cannot be shown f`},
		{Level: "info", Message: `what cannot be shown`, Data: []byte(`"not logged: what cannot be shown"`)},
	}
	if err != nil || len(a.logs) != len(want) {
		t.Fatalf("%+v, %v", a.logs, err)
	}
	for i, w := range want {
		l := a.logs[i]
		if l.Level != w.Level || l.Message != w.Message || !bytes.Equal(l.Data, w.Data) || l.Time.IsZero() || len(l.Data) > 0 && !json.Valid(l.Data) {
			t.Errorf("%+v %s", l, l.Data)
		}
	}
}

// What JSON has no number for is no option: it would be null there, which says nothing, so that a value would be set whatever its version
// and stay for ever.
func TestNoNumbers(t *testing.T) {
	t.Parallel()
	e := js.New()
	load(t, e, handler("numbers", `
	const refused = [];
	for (const f of [
		() => ctx.kv("c").set("k", 1, { ifVersion: NaN }), () => ctx.kv("c").set("k", 1, { ttlMs: Infinity }),
		() => ctx.kv("c").increment("k", { by: NaN }), () => ctx.kv("c").delete("k", { ifVersion: -Infinity }),
		() => ctx.invoke("s", 1, { delayMs: Infinity }), () => ctx.queue("q").send(1, { maxAttempts: NaN }),
		() => ctx.queue("q").sendAll([1], { runAt: new Date(NaN) }), () => ctx.pubsub.publish("t", 1, { runAt: new Date(NaN) }),
	]) {
		try { await f(); refused.push("taken"); } catch (e) { refused.push(e.code); }
	}
	return refused.join();`))
	host := func(_ context.Context, service, method string, args []byte) ([]byte, error) {
		t.Errorf("%s.%s is called with %s", service, method, args)
		return []byte(`{}`), nil
	}
	a, err := call(t.Context(), e, "numbers", "", host)
	if err != nil || a.body.String() != `"`+strings.Repeat("invalid_argument,", 7)+`invalid_argument"` {
		t.Errorf("%s, %v", a.body.String(), err)
	}
}

// What is wrong with a delivery is said in words of the script, and a key that is no Unicode is none: all such would be one key.
func TestDeliveries(t *testing.T) {
	t.Parallel()
	e := js.New()
	load(t, e, handler("deliveries", `
	const refused = [];
	for (const delivery of [
		{ priority: 1.5 }, { priority: "1" }, { maxAttempts: "3" }, { delayMs: "5" }, { delayMs: -1 }, { delay: 5 }, { orderingKey: 5 }, { runAt: 5 },
		{ runAt: "tomorrow" }, { runAt: "" }, [1], "x", { orderingKey: "\ud800" }, { idempotencyKey: "a\udc00" },
	]) {
		try { await ctx.invoke("s", 1, delivery); refused.push("taken"); } catch (e) { refused.push(e.code + ": " + e.message); }
	}
	await ctx.invoke("s", 1, { runAt: new Date(0), orderingKey: "\u{1F600}", delayMs: null });
	return refused;`))
	var asked atomic.Pointer[string]
	host := func(_ context.Context, _, _ string, args []byte) ([]byte, error) {
		text := string(args)
		if asked.Swap(&text) != nil {
			t.Error("what is refused was sent")
		}
		return []byte(`{}`), nil
	}
	a, err := call(t.Context(), e, "deliveries", "", host)
	if err != nil {
		t.Fatal(err)
	}
	var refused []string
	if err := json.Unmarshal(a.body.Bytes(), &refused); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"priority has to be a whole number", "priority has to be a whole number", "maxAttempts has to be a whole number", "delayMs has to be a number",
		"delayMs must be a number of milliseconds, at most a year", `a delivery has no option "delay"`, "orderingKey has to be a text",
		"runAt has to be a text", "runAt must be a Date, or a time such as 2026-01-02T15:04:05Z", "runAt must be a Date, or a time such as 2026-01-02T15:04:05Z",
		"a delivery has to be an object", "a delivery has to be an object", "orderingKey is no Unicode: write bytes as text, such as in hexadecimal",
		"idempotencyKey is no Unicode: write bytes as text, such as in hexadecimal",
	} {
		if refused[i] != "invalid_argument: "+want {
			t.Errorf("%d: %s, not %s", i, refused[i], want)
		}
	}
	if sent := asked.Load(); sent == nil || !strings.Contains(*sent, `"delivery":{"run_at":"1970-01-01T00:00:00Z","ordering_key":"😀"}`) {
		t.Errorf("%v", sent)
	}
}

// A condition of a filter whose value is missing is refused: JSON would leave it out, and every document would be found.
func TestStatedConditions(t *testing.T) {
	t.Parallel()
	e := js.New()
	load(t, e, handler("stated", `
	const docs = ctx.docs("c"), refused = [], { owner } = ctx.request;
	for (const f of [
		() => docs.find({ owner }), () => docs.findOne({ $or: [{ a: 1 }, { owner }] }), () => docs.find({ a: { $in: [1, undefined] } }),
		() => docs.find({ a: NaN }), () => docs.find({ a: { $lt: Infinity } }), () => docs.find({ a: () => 1 }), () => docs.find({ a: Symbol() }),
	]) {
		try { await f(); refused.push("taken"); } catch (e) { refused.push(e.code + ": " + e.message); }
	}
	await docs.find({ a: null, b: false }, { sort: ["a"], cursor: undefined });
	await docs.create({ owner });
	return refused;`))
	var mu sync.Mutex
	var asked []string
	host := func(_ context.Context, service, method string, args []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, service+"."+method+" "+string(args))
		return []byte(`{}`), nil
	}
	a, err := call(t.Context(), e, "stated", "", host)
	if err != nil {
		t.Fatal(err)
	}
	var refused []string
	if err := json.Unmarshal(a.body.Bytes(), &refused); err != nil {
		t.Fatal(err)
	}
	for i, of := range []string{"owner", "owner", "1", "a", "$lt", "a", "a"} {
		if !strings.HasPrefix(refused[i], "invalid_argument: the value cannot be sent: "+of+" must not be ") {
			t.Errorf("%d: %s", i, refused[i])
		}
	}
	if got, want := strings.Join(asked, "\n"), `docs.find {"collection":"c","filter":{"a":null,"b":false},"sort":["a"]}
docs.create {"collection":"c","data":{}}`; got != want {
		t.Error(got)
	}
}

// A time to live is rounded away from zero, with which the value would stay for ever.
func TestTimeToLive(t *testing.T) {
	t.Parallel()
	e := js.New()
	load(t, e, handler("live", `
	for (const ttlMs of [0, 0.1, 1, 1.5, -0.1, -1.5]) await ctx.kv("c").set("k", ttlMs, { ttlMs });`))
	var mu sync.Mutex
	var asked []string
	host := func(_ context.Context, _, _ string, args []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		var in struct {
			TTL json.Number `json:"ttl_ms"`
		}
		err := json.Unmarshal(args, &in)
		asked = append(asked, in.TTL.String())
		return []byte(`{}`), err
	}
	if _, err := call(t.Context(), e, "live", "", host); err != nil || strings.Join(asked, " ") != "0 1 1 2 -1 -2" {
		t.Error(asked, err)
	}
}

// Bytes are the body of a request as they are, and no value: JSON would make an object of them, with a field for each.
func TestBytes(t *testing.T) {
	t.Parallel()
	e := js.New()
	load(t, e, handler("bytes", `
	const bytes = new Uint8Array([104, 105]);
	await ctx.http.post("u", bytes);
	await ctx.http.request("u", { body: bytes.buffer });
	await ctx.call("s", bytes);
	await ctx.http.put("u", [...bytes]);
	const refused = [];
	for (const f of [() => ctx.kv("c").set("k", bytes), () => ctx.docs("c").create(bytes), () => ctx.pubsub.publish("t", bytes), () => ctx.secrets.set("s", bytes)]) {
		try { await f(); refused.push("taken"); } catch (e) { refused.push(e.code); }
	}
	return refused.join();`))
	var mu sync.Mutex
	var asked []string
	host := func(_ context.Context, service, method string, args []byte) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, service+"."+method+" "+string(args))
		return []byte(`{}`), nil
	}
	a, err := call(t.Context(), e, "bytes", "", host)
	if err != nil || a.body.String() != `"`+strings.Repeat("invalid_argument,", 3)+`invalid_argument"` {
		t.Errorf("%s, %v", a.body.String(), err)
	}
	if got, want := strings.Join(asked, "\n"), `http.post {"url":"u","body_base64":"aGk="}
http.request {"url":"u","body_base64":"aGk="}
invoke.call {"script":"s","body_base64":"aGk="}
http.put {"url":"u","body":[104,105]}`; got != want {
		t.Error(got)
	}
}
