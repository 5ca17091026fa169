package yaegi

import (
	"context"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/script"
)

// pool holds the interpreters of one bundle, which are made when they are needed.
type pool struct {
	*script.Pool[*interpreter]
	src *source
}

func newPool(src *source, size int, first *interpreter) *pool {
	p := &pool{script.NewPool[*interpreter](size, nil), src}
	p.Keep(first)
	return p
}

// get returns an interpreter that nobody else has, building one if none is idle. It waits while all are in use. Whoever
// has it must put or discard it.
func (p *pool) get(ctx context.Context) (*interpreter, error) {
	if err := p.Enter(ctx); err != nil {
		return nil, err
	}
	if in, ok := p.Take(); ok {
		return in, nil
	}
	in, err := p.src.build(ctx)
	if err != nil {
		p.Leave()
		if ctx.Err() != nil {
			return nil, script.EndOf(ctx)
		}
		return nil, fault.New(fault.ScriptError, fault.Script, "the script's initialisers failed: %v", err)
	}
	return in, nil
}

// put gives an interpreter back.
func (p *pool) put(in *interpreter) {
	p.Keep(in)
	p.Leave()
}

// discard drops an interpreter that was stopped, and has another ready for the next call.
func (p *pool) discard(in *interpreter) {
	in.stop()
	p.Leave()
	p.Replace(p.src.build)
}
