package js_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/plugins/engine/js"
	"github.com/picloud/picloud/sdk/fault"
)

const libraryImport = `import { base64, hex, url, hash, random, csv, time } from "picloud";`

func TestLibrary(t *testing.T) {
	t.Parallel()
	e := js.New()
	for name, c := range map[string]struct{ body, want string }{
		"buffers":     {`return [base64.encode(new Uint8Array([1, 2]).buffer), hex.encode(new DataView(new ArrayBuffer(2)))]`, `["AQI=","0000"]`},
		"lone halves": {`return hex.encode("\ud800")`, `"efbfbd"`},
		"zones": {
			`return [time.format(new Date(0), { zone: "America/New_York", layout: "2006-01-02 15:04" }), time.parse("2026-07-01 12:00", { layout: "2006-01-02 15:04", zone: "Europe/Berlin" }).toISOString()]`,
			`["1969-12-31 19:00","2026-07-01T10:00:00.000Z"]`,
		},
		"object fields": {`return url.parseQuery("__proto__=1&a")`, `{"__proto__":["1"],"a":[""]}`},
		"random":        {`return Array.from({ length: 100 }, () => random.int(-1, 1)).every((n) => n >= -1 && n <= 1)`, `true`},
		"URL": {
			`const u = new URL("HTTPS://ada:p%40s@Example.com:8443/a%20b?q=1&q=2#top");
			return [u.href, u.protocol, u.username, u.password, u.host, u.hostname, u.port, u.pathname, u.search, u.hash, u.origin, JSON.stringify({ u }), String(u)]`,
			`["https://ada:p%40s@example.com:8443/a%20b?q=1&q=2#top","https:","ada","p%40s","example.com:8443","example.com","8443","/a%20b","?q=1&q=2","#top","https://example.com:8443",` +
				`"{\"u\":\"https://ada:p%40s@example.com:8443/a%20b?q=1&q=2#top\"}","https://ada:p%40s@example.com:8443/a%20b?q=1&q=2#top"]`,
		},
		"URL against another": {`return [new URL("../c?x", "https://example.com/a/b/d").href, new URL("//b.org", new URL("https://a.org")).href]`, `["https://example.com/a/c?x","https://b.org/"]`},
		"changed URL": {
			`const u = new URL("https://example.com/?a=%20");
			const as = u.href;
			u.searchParams.set("a", "1&2"); u.searchParams.append("b", "ü"); u.pathname = "x y/z?"; u.hash = "end"; u.host = "b.org:81"; u.protocol = "http";
			const changed = u.href;
			u.search = "?c=d";
			return [as, changed, u.searchParams.get("c"), u.search]`,
			`["https://example.com/?a=%20","http://b.org:81/x%20y/z%3F?a=1%262&b=%C3%BC#end","d","?c=d"]`,
		},
		"no URL": {
			`return [URL.canParse("nothing"), URL.canParse("a", "https://b.org"), (() => { try { new URL("/a") } catch (e) { return String(e) } })()]`,
			`[false,true,"TypeError: there is no scheme, such as https, in the address"]`,
		},
		"search parameters": {
			`const p = new URLSearchParams("?b=2&a=1&a=x+y%21&c");
			p.append("d", 4); p.delete("b"); p.sort();
			return [p.getAll("a"), p.get("none"), p.has("c"), p.size, [...p.keys()], [...p.values()], [...p], p.toString(), new URLSearchParams({ a: "é", b: "~*" }).toString(), new URLSearchParams([["a", 1]]).toString()]`,
			`[["1","x y!"],null,true,4,["a","a","c","d"],["1","x y!","","4"],[["a","1"],["a","x y!"],["c",""],["d","4"]],"a=1&a=x+y%21&c=&d=4","a=%C3%A9&b=%7E*","a=1"]`,
		},
		"errors": {
			`const said = (f) => { try { f() } catch (e) { return String(e) } };
			return [() => base64.decode("*"), () => hex.decode(7), () => csv.format([["a", 1]]), () => url.query({ a: 1 }), () => hash.sha256(), () => random.bytes(65537), () => random.int(1.5, 2),
				() => csv.parse("a", { comma: ";" }), () => csv.parse("a", ";"), () => hash.sha256("a", "b"), () => time.format(new Date(NaN)), () => time.format("now"), () => random.bytes(2 ** 60)].map(said)`,
			`["TypeError: base64.decode: illegal base64 data at input byte 0","TypeError: hex.decode: text has to be a text","TypeError: csv.format: rows has to be a list of lists of texts",` +
				`"TypeError: url.query: fields has to be texts, or lists of them, by their names","TypeError: hash.sha256: data has to be a text or bytes","TypeError: random.bytes: from 0 to 65536 bytes are given at a time, not 65537",` +
				`"TypeError: random.int: low has to be a whole number","TypeError: csv.parse has no option comma","TypeError: csv.parse takes text, {options}","TypeError: hash.sha256 takes data",` +
				`"TypeError: time.format: time has to be a time","TypeError: time.format: time has to be a time","TypeError: random.bytes: n has to be a whole number"]`,
		},
		"what only looks like it": {
			`const said = (f) => { try { return f() } catch (e) { return e.message } };
			return [() => hash.sha256(["YQ=="]), () => base64.encode(["abcd"]), () => hash.equal("a", ["YQ=="]), () => csv.format([["a", null]]), () => csv.format([["a", undefined]]),
				() => csv.format([null]), () => csv.format([[], ["a", "b"]])].map(said)`,
			`["hash.sha256: data has to be a text or bytes","base64.encode: data has to be a text or bytes","hash.equal: b has to be a text or bytes",` +
				`"csv.format: rows has to be a list of lists of texts","csv.format: rows has to be a list of lists of texts","csv.format: rows has to be a list of lists of texts","\na,b\n"]`,
		},
		"names of the script's own": {`const url = new URL("https://b.org"); return url.host`, `"b.org"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			load(t, e, files(name, "main.js", libraryImport+"\nexport default async function handle(ctx) {\n"+c.body+"\n}\n"))
			a, err := invoke(t.Context(), e, name, "")
			if err != nil || a.body.String() != c.want {
				t.Errorf("%v\n%s\nnot\n%s", err, a.body.String(), c.want)
			}
		})
	}
}

// What is too large is an error of the script, or ends its run as any other memory that it takes.
func TestLibraryIsBounded(t *testing.T) {
	e := js.New()
	load(t, e, files("next", "main.js", "export default () => 1\n"))
	for name, c := range map[string]struct {
		body, want string
		kind       fault.Kind
	}{
		"what is large":         {body: `return base64.decode(base64.encode("x".repeat(1 << 18))).length`, want: `262144`},
		"more than 8 MiB":       {body: `try { return hex.encode(new Uint8Array((8 << 20) + 1)) } catch (e) { return e.message }`, want: `"hex.encode takes up to 8 MiB, not 8388609 bytes"`},
		"a row many times":      {body: `const row = ["x".repeat(1 << 20)]; return csv.format(Array(1000).fill(row)).length`, kind: fault.Limit},
		"results that are kept": {body: `const all = []; for (;;) all.push(base64.encode("x".repeat(1 << 16) + all.length))`, kind: fault.Limit},
		"a large text":          {body: `return base64.encode("x".repeat(1 << 29)).length`, kind: fault.Limit},
		"growing bytes":         {body: `let b = "x"; for (;;) b = hex.encode(b)`, kind: fault.Limit},
		"growing parameters":    {body: `const p = new URLSearchParams(); for (;;) p.append("a", "b".repeat(1000))`, kind: fault.Limit},
	} {
		t.Run(name, func(t *testing.T) {
			b := files(name, "main.js", libraryImport+"\nexport default async function handle(ctx) {\n"+c.body+"\n}\n")
			if c.kind == fault.Limit {
				b.Limits.Memory = 4 << 20 // is reached sooner
			}
			load(t, e, b)
			a, err := invoke(t.Context(), e, name, "")
			if f := fault.From(err); c.kind == "" && (err != nil || a.body.String() != c.want) || c.kind != "" && (f == nil || f.Kind != c.kind || f.Origin != fault.Script) {
				t.Errorf("%+v %.100s", f, a.body.String())
			}
			if _, err := invoke(t.Context(), e, "next", ""); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	e := js.New()
	for name, c := range map[string]struct{ body, want string }{
		"options": {
			`const said = async (...args) => { try { await ctx.retry(...args) } catch (e) { return e.message } };
			return [await said(), await said(() => 1, { attempts: 0 }), await said(() => 1, { attempts: 101 }), await said(() => 1, { backoffMs: -1 }), await said(() => 1, { times: 3 })]`,
			`["retry takes a function","attempts must be a whole number from 1 on","retry: there may be up to 100 attempts, not 101","backoffMs must be a number of milliseconds, at most a year","retry has no option times, only attempts, backoffMs"]`,
		},
		"value":              {`return [await ctx.retry(() => 7), await ctx.retry(async () => undefined)]`, `[7,null]`},
		"all attempts":       {`let n = 0; try { await ctx.retry(() => { n++; throw new Error("no") }, { attempts: 8, backoffMs: 0.01 }) } catch (e) { return [n, e.message] }`, `[8,"no"]`},
		"fatal":              {`let n = 0; try { await ctx.retry(() => { n++; throw new Error("no", { cause: new Fatal("never") }) }) } catch (e) { return n }`, `1`},
		"beyond the run":     {`let n = 0; try { await ctx.retry(() => { n++; throw new RetryAfter("later", 3600_000) }) } catch (e) { return [n, e.message] }`, `[1,"later"]`},
		"what is no error":   {`let n = 0; try { await ctx.retry(() => { n++; throw n }, { backoffMs: 1 }) } catch (e) { return e }`, `3`},
		"one in another one": {`let n = 0; return await ctx.retry(() => ctx.retry(() => { if (++n < 5) throw n; return n }, { attempts: 2, backoffMs: 1 }), { attempts: 3, backoffMs: 1 })`, `5`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			load(t, e, handler(name, c.body))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			a, err := invoke(ctx, e, name, "")
			if err != nil || strings.TrimSpace(a.body.String()) != c.want {
				t.Errorf("%v\n%s\nnot\n%s", err, a.body.String(), c.want)
			}
		})
	}
}
