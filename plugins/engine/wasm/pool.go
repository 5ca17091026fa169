package wasm

import (
	"context"
	"sync"
	"time"

	"github.com/picloud/picloud/sdk/script"
)

const (
	// poolSize is how many runs a bundle may have at one time where its limits do not say.
	poolSize = 32
	// idleAfter is how long an instance beyond the first may be without work.
	idleAfter = 30 * time.Second
)

// pool bounds the runs of one program, and holds the instances of a reactor. The one that was used last is used next, so that
// those beyond the need fall idle and go. Safe for concurrent use.
type pool struct {
	room chan struct{} // one token for each run

	mu     sync.Mutex
	idle   []*instance // the last was used last
	closed bool
	trim   *time.Timer
}

func newPool(size int) *pool {
	if size <= 0 {
		size = poolSize
	}
	return &pool{room: make(chan struct{}, size)}
}

// enter waits until there may be another run. Each needs its leave.
func (p *pool) enter(ctx context.Context) error {
	select {
	case p.room <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return script.EndOf(ctx)
	}
}

func (p *pool) leave() { <-p.room }

// get returns an instance that nobody else has; nil: there is none.
func (p *pool) get() *instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	in := p.idle[n-1]
	p.idle = p.idle[:n-1]
	return in
}

// put keeps an instance for the next run.
func (p *pool) put(in *instance) {
	in.used = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		in.close()
		return
	}
	p.idle = append(p.idle, in)
	if len(p.idle) > 1 && p.trim == nil {
		p.trim = time.AfterFunc(idleAfter, p.trimIdle)
	}
}

// trimIdle ends instances that had no work for a while. One stays.
func (p *pool) trimIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trim = nil
	old := 0
	for old < len(p.idle)-1 && time.Since(p.idle[old].used) > idleAfter {
		p.idle[old].close()
		old++
	}
	p.idle = append([]*instance(nil), p.idle[old:]...)
	if len(p.idle) > 1 {
		p.trim = time.AfterFunc(idleAfter, p.trimIdle)
	}
}

// drop ends what is idle.
func (p *pool) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, in := range p.idle {
		in.close()
	}
	p.idle = nil
}

// close ends what is idle; what is in use ends when it is given back.
func (p *pool) close() {
	p.drop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.trim != nil {
		p.trim.Stop()
	}
	for _, in := range p.idle { // given back meanwhile
		in.close()
	}
	p.idle = nil
}
