package js

import (
	"testing"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/watch"
)

// Shallow bounds how deep calls may be nested.
func Shallow(slots uintptr) { stackSlots = slots }

// Compiled is a compiled script, for what measures interpreters.
func Compiled(tb testing.TB, b engine.Bundle) *Program {
	p, _, found, err := compile(&b, &watch.Watch{})
	if p == nil {
		tb.Fatal(found, err)
	}
	return &Program{p}
}

// Program is one.
type Program struct{ *program }

// BuildAndClose makes an interpreter that has loaded the script, and gives it up.
func (p *Program) BuildAndClose(tb testing.TB) {
	m, err := p.build(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	m.Close()
}
