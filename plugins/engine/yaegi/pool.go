package yaegi

import (
	"context"
	"sync"
	"time"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/script"
)

const (
	// poolSize is how many interpreters a bundle may have where its limits do not say.
	poolSize = 32
	// idleAfter is how long an interpreter beyond the first may be without work.
	idleAfter = 30 * time.Second
)

// pool holds the interpreters of one bundle. They are made when they are needed, and the one that was used last is used
// next, so that those beyond the need fall idle and go. Safe for concurrent use.
type pool struct {
	src *source

	mu     sync.Mutex
	idle   []*interpreter // the last was used last
	room   chan struct{}  // one token for each interpreter that may be in use
	closed bool
	trim   *time.Timer
}

func newPool(src *source, size int, first *interpreter) *pool {
	if size <= 0 {
		size = poolSize
	}
	return &pool{src: src, room: make(chan struct{}, size), idle: []*interpreter{first}}
}

// get returns an interpreter that nobody else has, building one if none is idle. It waits while all are in use. Whoever
// has it must put or discard it.
func (p *pool) get(ctx context.Context) (*interpreter, error) {
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
		in := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return in, nil
	}
	p.mu.Unlock()
	in, err := p.src.build(ctx)
	if err != nil {
		<-p.room
		if ctx.Err() != nil {
			return nil, script.EndOf(ctx)
		}
		return nil, fault.New(fault.ScriptError, fault.Script, "the script's initialisers failed: %v", err)
	}
	return in, nil
}

// put gives an interpreter back.
func (p *pool) put(in *interpreter) {
	in.used = time.Now()
	p.mu.Lock()
	if p.closed {
		in.stop()
	} else {
		p.idle = append(p.idle, in)
		if len(p.idle) > 1 && p.trim == nil {
			p.trim = time.AfterFunc(idleAfter, p.trimIdle)
		}
	}
	p.mu.Unlock()
	<-p.room
}

// discard drops an interpreter that was stopped, and has another ready for the next call.
func (p *pool) discard(in *interpreter) {
	in.stop()
	<-p.room
	p.mu.Lock()
	replace := len(p.idle) == 0 && !p.closed
	p.mu.Unlock()
	if replace {
		go p.refill()
	}
}

// refillLimit bounds the initialisers of an interpreter that nobody waits for.
const refillLimit = 5 * time.Second

func (p *pool) refill() {
	ctx, cancel := context.WithTimeout(context.Background(), refillLimit)
	defer cancel()
	in, err := p.src.build(ctx)
	if err != nil {
		return // the next call builds its own, and hears why it cannot
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) > 0 {
		in.stop()
		return
	}
	p.idle = append(p.idle, in)
}

// trimIdle ends interpreters that had no work for a while. One stays.
func (p *pool) trimIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trim = nil
	old := 0
	for old < len(p.idle)-1 && time.Since(p.idle[old].used) > idleAfter {
		p.idle[old].stop()
		old++
	}
	p.idle = append([]*interpreter(nil), p.idle[old:]...)
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
	for _, in := range p.idle {
		in.stop()
	}
	p.idle = nil
}
