package js_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/picloud/picloud/plugins/engine/js"
	"github.com/picloud/picloud/sdk/fault"
)

func TestOrder(t *testing.T) {
	t.Parallel()
	e := js.New()
	load(t, e, handler("h", `
		const seen = [];
		setTimeout((x) => { seen.push(x); Promise.resolve().then(() => seen.push("after first")) }, 0, "first");
		setTimeout(() => seen.push("second"), 0);
		setTimeout(() => seen.push("last"), 20);
		const gone = setTimeout(() => seen.push("gone"), 1);
		clearTimeout(gone); clearTimeout(gone); clearTimeout(undefined);
		queueMicrotask(() => seen.push("micro"));
		Promise.resolve().then(() => seen.push("promise"));
		(async () => { seen.push("at once"); await null; seen.push("resumed") })();
		seen.push("sync");
		await ctx.sleep(30);
		setTimeout(() => { throw new Error("dropped") }, 0);
		return seen;`))
	a, err := invoke(t.Context(), e, "h", "")
	if want := `["at once","sync","micro","promise","resumed","first","after first","second","last"]`; err != nil || a.body.String() != want {
		t.Errorf("%s, %v", a.body.String(), err)
	}
}

// Calls of one run are under way side by side, sixteen at most, and the script goes on in the order of their answers.
func TestParallelCalls(t *testing.T) {
	t.Parallel()
	e := js.New()
	load(t, e, handler("h", `
		const order = [];
		const ids = await Promise.all(Array.from({ length: 40 }, (_, i) => ctx.queue("q").send(i).then((id) => (order.push(id), id))));
		return { ids, order };`))
	var mu sync.Mutex
	open, most := 0, 0
	full, release := make(chan struct{}), make(chan struct{})
	host := func(_ context.Context, _, _ string, args []byte) ([]byte, error) {
		var in struct{ Messages []struct{ Data string } }
		if err := json.Unmarshal(args, &in); err != nil {
			return nil, err
		}
		mu.Lock()
		open++
		if most = max(most, open); open == 16 {
			close(full)
		}
		mu.Unlock()
		<-release
		mu.Lock()
		open -= 17 // never full again
		mu.Unlock()
		return fmt.Appendf(nil, `{"messages":[{"id":"e%s"}]}`, in.Messages[0].Data), nil
	}
	go func() { <-full; close(release) }()
	a, err := call(t.Context(), e, "h", "", host)
	var out struct{ IDs, Order []string }
	if err != nil || json.Unmarshal(a.body.Bytes(), &out) != nil || len(out.Order) != 40 || most != 16 {
		t.Fatalf("%v, %s, %d at one time", err, a.body.String(), most)
	}
	for i, id := range out.IDs {
		if id != fmt.Sprint("e", i) {
			t.Errorf("%d: %s", i, id)
		}
	}
}

func TestSends(t *testing.T) {
	t.Parallel()
	e := js.New()
	type request struct{ service, args string }
	for name, c := range map[string]struct {
		body     string
		answer   string
		err      error
		requests []request
		want     string
	}{
		"invoke": {
			`return ctx.invoke("s", { a: 1 }, { delayMs: 0.5, runAt: new Date(0), expiresInMs: 60000, priority: -3, maxAttempts: 4, orderingKey: "o",
				concurrencyKey: "c", rateKey: "r", debounceKey: "d", idempotencyKey: "i" })`, `{"id":"e1"}`, nil,
			[]request{{"invoke.send", `{"script":"s","data":"{\"a\":1}","content_type":"application/json","delivery":{"delay_ms":1,"run_at":"1970-01-01T00:00:00Z",` +
				`"expires_in_ms":60000,"priority":-3,"max_attempts":4,"ordering_key":"o","concurrency_key":"c","rate_key":"r","debounce_key":"d","idempotency_key":"i"}}`}},
			`"e1"`,
		},
		"data": {
			`return [await ctx.invoke("s"), await ctx.invoke("s", "text"), await ctx.invoke("s", new Uint8Array([255])), await ctx.invoke("s", null, null)]`, `{"id":"e"}`, nil,
			[]request{
				{"invoke.send", `{"script":"s"}`},
				{"invoke.send", `{"script":"s","data":"text","content_type":"text/plain; charset=utf-8"}`},
				{"invoke.send", `{"script":"s","data_base64":"/w==","content_type":"application/octet-stream"}`},
				{"invoke.send", `{"script":"s"}`},
			},
			`["e","e","e","e"]`,
		},
		"send all": {
			`return ctx.queue("q").sendAll(["a", { b: 1 }], { idempotencyKey: "k", runAt: "2026-01-02T03:04:05Z" })`, `{"messages":[{"id":"e1"},{"id":"e2"}]}`, nil,
			[]request{{"queue.send", `{"queue":"q","messages":[{"data":"a","content_type":"text/plain; charset=utf-8","delivery":{"run_at":"2026-01-02T03:04:05Z","idempotency_key":"k/0"}},` +
				`{"data":"{\"b\":1}","content_type":"application/json","delivery":{"run_at":"2026-01-02T03:04:05Z","idempotency_key":"k/1"}}]}`}},
			`["e1","e2"]`,
		},
		"some refused": {
			`return ctx.queue("q").sendAll([1, 2]).catch((e) => [e instanceof PicloudError, e.code, e.message, e.retryAfterMs, e.ids])`,
			`{"messages":[{"id":"e1"},{"code":"overloaded","error":"full","retry_after_ms":1500}]}`, nil,
			[]request{{"queue.send", `{"queue":"q","messages":[{"data":"1","content_type":"application/json"},{"data":"2","content_type":"application/json"}]}`}},
			`[true,"overloaded","full",1500,["e1",""]]`,
		},
		"refused": {
			`return ctx.invoke("s", 1).catch((e) => [e.name, e.code, e.message, "retryAfterMs" in e, "ids" in e])`, ``, fault.New(fault.LoopDepth, fault.Script, "in a circle"),
			[]request{{"invoke.send", `{"script":"s","data":"1","content_type":"application/json"}`}},
			`["PicloudError","loop_depth","in a circle",false,false]`,
		},
		"wrong": {
			`const out = [];
			for (const f of [() => ctx.invoke("s", 1n), () => ctx.queue("q").sendAll([1, () => 1]), () => ctx.invoke("s", 1, { delay: 1 }), () => ctx.invoke("s", 1, { delayMs: -1 }),
				() => ctx.invoke("s", 1, { runAt: "soon" }), () => ctx.invoke("s", 1, { delayMs: 1e300 })]) await f().catch((e) => out.push(e.code));
			return out;`, ``, nil, nil, `["invalid_argument","invalid_argument","invalid_argument","invalid_argument","invalid_argument","invalid_argument"]`,
		},
		"waited for": {
			`ctx.queue("q").send(1).then(() => ctx.log.info("sent")); return 1`, `{"messages":[{"id":"e1"}]}`, nil,
			[]request{{"queue.send", `{"queue":"q","messages":[{"data":"1","content_type":"application/json"}]}`}},
			`1`,
		},
	} {
		load(t, e, handler(name, c.body))
		var got []request
		a, err := call(t.Context(), e, name, "", func(_ context.Context, service, method string, args []byte) ([]byte, error) {
			got = append(got, request{service + "." + method, string(args)})
			return []byte(c.answer), c.err
		})
		if err != nil || a.body.String() != c.want || fmt.Sprint(got) != fmt.Sprint(c.requests) {
			t.Errorf("%s: %v %s\n%v", name, err, a.body.String(), got)
		}
		if name == "waited for" && len(a.logs) != 1 {
			t.Errorf("a call that was begun was not waited for: %v", a.logs)
		}
	}
	// What nobody caught fails the run, with its code.
	load(t, e, handler("code", `await ctx.invoke("s")`))
	_, err := call(t.Context(), e, "code", "", func(context.Context, string, string, []byte) ([]byte, error) {
		return nil, fault.New(fault.LoopDepth, fault.Script, "in a circle")
	})
	if f := fault.From(err); f == nil || f.Kind != fault.ScriptError || f.Message != "loop_depth: in a circle" {
		t.Errorf("%+v", f)
	}
}

// A run that ends while it waits for the host takes its calls with it.
func TestEndsInHost(t *testing.T) {
	t.Parallel()
	e := js.New()
	load(t, e, handler("h", `await Promise.all([ctx.invoke("s"), ctx.invoke("s"), ctx.sleep(3600_000)])`))
	ctx, cancel := context.WithCancel(t.Context())
	var open, ended sync.WaitGroup
	open.Add(2)
	ended.Add(2)
	go func() { open.Wait(); cancel() }()
	_, err := call(ctx, e, "h", "", func(ctx context.Context, _, _ string, _ []byte) ([]byte, error) {
		defer ended.Done()
		open.Done()
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ended.Wait()
	if f := fault.From(err); f == nil || f.Kind != fault.Cancelled {
		t.Errorf("%+v", f)
	}
}

// Globals live as long as an interpreter, and belong to one script; a run that is stopped takes its interpreter with it.
func TestGlobals(t *testing.T) {
	t.Parallel()
	e := js.New()
	counter := handler("h", `if (ctx.request.text() === "loop") { await ctx.invoke("s"); for (;;); } Object.prototype.spoilt = 1; return globalThis.n = (globalThis.n ?? 0) + 1`)
	counter.Limits.Pool = 1
	load(t, e, counter)
	load(t, e, handler("other", `return [typeof globalThis.n, ({}).spoilt === undefined]`))
	expect := func(hash, want string) {
		t.Helper()
		if a, err := invoke(t.Context(), e, hash, ""); err != nil || a.body.String() != want {
			t.Errorf("%s: %s, %v", hash, a.body.String(), err)
		}
	}
	expect("h", "1")
	expect("h", "2")
	expect("other", `["undefined",true]`)
	begun := false
	for limit := 20 * time.Millisecond; !begun; limit *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := call(ctx, e, "h", "loop", func(context.Context, string, string, []byte) ([]byte, error) {
			begun = true
			return []byte(`{"id":"e"}`), nil
		})
		cancel()
		if f := fault.From(err); f == nil || f.Kind != fault.Deadline {
			t.Fatal(err)
		}
	}
	expect("h", "1")
}
