package js_test

import (
	"testing"

	"github.com/picloud/picloud/plugins/engine/js"
)

const orders = `
export default function handle(ctx) {
	const lines = ctx.request.json().lines.toSorted((a, b) => (a.item < b.item ? -1 : 1));
	let total = 0;
	for (const l of lines) total += l.count * l.price;
	return { total, items: lines.map((l) => l.item.toUpperCase()) };
}
`

const order = `{"lines":[{"item":"pear","count":3,"price":0.4},{"item":"desk","count":1,"price":249},{"item":"lamp","count":2,"price":39.9}]}`

func BenchmarkOrders(b *testing.B) { benchmark(b, orders, order) }

func BenchmarkTrivial(b *testing.B) {
	benchmark(b, "export default function handle(ctx) { return null; }", "")
}

func BenchmarkAsync(b *testing.B) {
	benchmark(b, "export default async function handle(ctx) { await null; return null; }", "")
}

func benchmark(b *testing.B, src, body string) {
	e := js.New()
	load(b, e, files("h", "main.js", src))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := invoke(b.Context(), e, "h", body); err != nil {
			b.Fatal(err)
		}
	}
}

// A run that throws out of memory or time costs an interpreter; so does the first of many calls at one time.
func BenchmarkNew(b *testing.B) {
	p := js.Compiled(b, files("h", "main.js", orders))
	for b.Loop() {
		p.BuildAndClose(b)
	}
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		e := js.New()
		if _, err := e.Load(b.Context(), files("h", "main.ts", orders)); err != nil {
			b.Fatal(err)
		}
		e.Unload("h")
	}
}
