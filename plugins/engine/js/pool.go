package js

import (
	"context"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/script"
)

const (
	// idleHeld bounds what all interpreters of the process that have no work may hold together, in bytes. One that would hold more
	// goes, and with it what its script keeps in globals.
	idleHeld = 48 << 20
	// collectAbove is from where on an interpreter that has no work is worth collecting before it is kept.
	collectAbove = 4 << 20
)

// pool holds the interpreters of one bundle, which are made when they are needed.
type pool struct {
	*script.Pool[*machine]
	program *program
}

func newPool(p *program, held *script.Budget, size int, first *machine) *pool {
	x := &pool{script.NewPool[*machine](size, held), p}
	x.Keep(first)
	return x
}

// get returns an interpreter that nobody else has, building one if none is idle. It waits while all are in use. Whoever
// has it must put or discard it.
func (p *pool) get(ctx context.Context) (*machine, error) {
	if err := p.Enter(ctx); err != nil {
		return nil, err
	}
	if m, ok := p.Take(); ok {
		return m, nil
	}
	m, err := p.program.build(ctx)
	if err != nil {
		p.Leave()
		if f := fault.From(err); f.Kind == fault.ScriptError {
			f.Message = "the script failed when it was loaded: " + f.Message
		}
		return nil, err
	}
	return m, nil
}

// put gives an interpreter back.
func (p *pool) put(m *machine) {
	if m.Holds() > collectAbove {
		m.native.collect()
	}
	p.Keep(m)
	p.Leave()
}

// discard drops an interpreter that was stopped, and has another ready for the next call. To end it takes a while, for which nobody
// waits; until it has given back what it held its place is taken.
func (p *pool) discard(m *machine) {
	go func() {
		m.Close()
		p.Leave()
		p.Replace(p.program.build)
	}()
}
