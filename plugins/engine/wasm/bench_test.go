package wasm_test

import (
	"testing"

	"github.com/picloud/picloud/plugins/engine/wasm"
)

const orders = `{"lines":[{"item":"pear","count":3,"price":0.4},{"item":"desk","count":1,"price":249},{"item":"lamp","count":2,"price":39.9}]}`

func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	e := wasm.New()
	for b.Loop() {
		if _, err := e.Load(b.Context(), bundle("h", built.command)); err != nil {
			b.Fatal(err)
		}
		e.Unload("h")
	}
}

func BenchmarkRuns(b *testing.B) {
	e := wasm.New()
	load(b, e, "command", built.command)
	load(b, e, "reactor", built.reactor)
	load(b, e, "tiny", module{functions: []function{{export: "_start"}}}.bytes())
	load(b, e, "loop", module{functions: []function{{export: "handle", locals: 1, code: code(
		i(1_000_000), set(0), loop, get(0), i(1), []byte{0x6b, 0x22, 0, 0x0d, 0}, end)}}}.bytes())
	for _, c := range []struct{ name, bundle, body string }{
		{"loop 1e6", "loop", ""},
		{"tiny", "tiny", ""},
		{"hello/command", "command", "echo hello"},
		{"hello/reactor", "reactor", "echo hello"},
		{"orders/command", "command", orders},
		{"orders/reactor", "reactor", orders},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := invoke(b.Context(), e, c.bundle, c.body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
