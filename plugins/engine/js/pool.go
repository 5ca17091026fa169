package js

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/script"
)

const (
	// poolSize is how many interpreters a bundle may have where its limits do not say.
	poolSize = 32
	// idleAfter is how long an interpreter beyond the first may be without work.
	idleAfter = 30 * time.Second
	// idleHeld bounds what all interpreters of the process that have no work may hold together, in bytes. One that would hold more
	// goes, and with it what its script keeps in globals.
	idleHeld = 48 << 20
	// collectAbove is from where on an interpreter that has no work is worth collecting before it is kept.
	collectAbove = 4 << 20
)

// pool holds the interpreters of one bundle. They are made when they are needed, and the one that was used last is used
// next, so that those beyond the need fall idle and go. Safe for concurrent use.
type pool struct {
	program *program
	held    *atomic.Int64 // by those in all pools that are idle, in bytes

	mu     sync.Mutex
	idle   []*machine    // the last was used last
	room   chan struct{} // one token for each interpreter that may be in use
	closed bool
	trim   *time.Timer
}

func newPool(p *program, held *atomic.Int64, size int, first *machine) *pool {
	if size <= 0 {
		size = poolSize
	}
	x := &pool{program: p, held: held, room: make(chan struct{}, size)}
	x.keep(first)
	return x
}

// keep adds an interpreter to those that are idle.
func (p *pool) keep(m *machine) {
	m.used, m.idle = time.Now(), int64(m.memory())
	p.held.Add(m.idle)
	p.idle = append(p.idle, m)
}

// drop ends an interpreter that was idle.
func (p *pool) drop(m *machine) {
	p.held.Add(-m.idle)
	m.close()
}

// get returns an interpreter that nobody else has, building one if none is idle. It waits while all are in use. Whoever
// has it must put or discard it.
func (p *pool) get(ctx context.Context) (*machine, error) {
	select {
	case p.room <- struct{}{}:
	default:
		select {
		case p.room <- struct{}{}:
		case <-ctx.Done():
			return nil, script.EndOf(ctx)
		}
	}
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		m := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		p.held.Add(-m.idle)
		return m, nil
	}
	p.mu.Unlock()
	m, err := p.program.build(ctx)
	if err != nil {
		<-p.room
		if f := fault.From(err); f.Kind == fault.ScriptError {
			f.Message = "the script failed when it was loaded: " + f.Message
		}
		return nil, err
	}
	return m, nil
}

// put gives an interpreter back.
func (p *pool) put(m *machine) {
	if m.memory() > collectAbove {
		m.native.collect()
	}
	p.mu.Lock()
	if p.closed || p.held.Load()+int64(m.memory()) > idleHeld {
		m.close()
	} else {
		p.keep(m)
		if len(p.idle) > 1 && p.trim == nil {
			p.trim = time.AfterFunc(idleAfter, p.trimIdle)
		}
	}
	p.mu.Unlock()
	<-p.room
}

// discard drops an interpreter that was stopped, and has another ready for the next call. Both take a while, for which nobody
// waits; until the old one has given back what it held its place is taken.
func (p *pool) discard(m *machine) {
	go func() {
		m.close()
		<-p.room
		p.mu.Lock()
		replace := len(p.idle) == 0 && !p.closed
		p.mu.Unlock()
		if replace {
			p.fill()
		}
	}()
}

// refillLimit bounds what stands outside of functions in an interpreter that nobody waits for.
const refillLimit = 5 * time.Second

func (p *pool) fill() {
	ctx, cancel := context.WithTimeout(context.Background(), refillLimit)
	defer cancel()
	m, err := p.program.build(ctx)
	if err != nil {
		return // the next call builds its own, and hears why it cannot
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) > 0 {
		m.close()
		return
	}
	p.keep(m)
}

// trimIdle ends interpreters that had no work for a while. One stays.
func (p *pool) trimIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trim = nil
	old := 0
	for old < len(p.idle)-1 && time.Since(p.idle[old].used) > idleAfter {
		p.drop(p.idle[old])
		old++
	}
	p.idle = append([]*machine(nil), p.idle[old:]...)
	if len(p.idle) > 1 {
		p.trim = time.AfterFunc(idleAfter, p.trimIdle)
	}
}

// close ends what is idle; what is in use ends when it is given back.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.trim != nil {
		p.trim.Stop()
	}
	for _, m := range p.idle {
		p.drop(m)
	}
	p.idle = nil
}
