package script

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picloud/picloud/sdk/engine"
)

const (
	// poolSize is how many runs a bundle may have at one time where its limits do not say.
	poolSize = 32
	// idleAfter is how long an instance beyond the first may be without work.
	idleAfter = 30 * time.Second
	// replaceLimit bounds the making of an instance that nobody waits for.
	replaceLimit = 5 * time.Second
)

// Instance is what serves one run of a script at a time, such as an interpreter that has loaded it.
type Instance interface {
	// Close ends it for good.
	Close()
}

// Holder is an Instance that holds memory which counts while it is idle.
type Holder interface {
	Instance
	// Holds is how many bytes it holds.
	Holds() int
}

// Budget bounds what the idle instances of several pools hold together, if they are Holders. Safe for concurrent use.
type Budget struct {
	Bytes int64

	held atomic.Int64
}

// Pool bounds the runs of one bundle, and keeps instances for them. The one that was used last is used next, so that those beyond
// the need fall idle and go. Safe for concurrent use.
type Pool[I Instance] struct {
	budget *Budget
	room   *engine.Room

	mu     sync.Mutex
	idle   []idle[I] // the last was used last
	closed bool
	trim   *time.Timer
}

// idle is an instance without work.
type idle[I Instance] struct {
	instance I
	since    time.Time
	held     int64
}

// NewPool makes an empty pool for up to size runs at one time; zero: the default. budget may be nil.
func NewPool[I Instance](size int, budget *Budget) *Pool[I] {
	if size <= 0 {
		size = poolSize
	}
	return &Pool[I]{budget: budget, room: engine.NewRoom(size)}
}

// Enter waits until there may be another run. Each needs its Leave. It fails as the run does when ctx ends.
func (p *Pool[I]) Enter(ctx context.Context) error {
	select {
	case p.room.Places() <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.room.Places() <- struct{}{}:
		return nil
	case <-ctx.Done():
		return EndOf(ctx)
	}
}

// Leave ends what Enter began.
func (p *Pool[I]) Leave() { p.room.Leave() }

// Lend is for a run that waits for another one: see engine.Room.
func (p *Pool[I]) Lend() (back func()) { return p.room.Lend() }

// Take returns an instance that nobody else has, if one is idle.
func (p *Pool[I]) Take() (i I, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return i, false
	}
	x := p.idle[n-1]
	p.idle = p.idle[:n-1]
	p.count(-x.held)
	return x.instance, true
}

// Keep has an instance wait for the next run, or ends it where there may be no more.
func (p *Pool[I]) Keep(i I) {
	x := idle[I]{instance: i, since: time.Now()}
	if h, ok := any(i).(Holder); ok {
		x.held = int64(h.Holds())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.budget != nil && p.budget.held.Load()+x.held > p.budget.Bytes {
		i.Close()
		return
	}
	p.count(x.held)
	p.idle = append(p.idle, x)
	if len(p.idle) > 1 && p.trim == nil {
		p.trim = time.AfterFunc(idleAfter, p.trimIdle)
	}
}

// Replace has build make an instance for the next run, beside the caller, unless one is idle. Where it cannot, the next run makes
// its own, and hears why.
func (p *Pool[I]) Replace(build func(context.Context) (I, error)) {
	if p.ready() {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), replaceLimit)
		defer cancel()
		i, err := build(ctx)
		switch {
		case err != nil:
		case p.ready():
			i.Close()
		default:
			p.Keep(i)
		}
	}()
}

// ready reports whether nothing more need be made.
func (p *Pool[I]) ready() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed || len(p.idle) > 0
}

// Drop ends what is idle.
func (p *Pool[I]) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(len(p.idle))
}

// Close ends what is idle; what is in use ends when it is given back.
func (p *Pool[I]) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.trim != nil {
		p.trim.Stop()
	}
	p.end(len(p.idle))
}

// trimIdle ends instances that had no work for a while. One stays.
func (p *Pool[I]) trimIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trim = nil
	old := 0
	for old < len(p.idle)-1 && time.Since(p.idle[old].since) > idleAfter {
		old++
	}
	p.end(old)
	if len(p.idle) > 1 {
		p.trim = time.AfterFunc(idleAfter, p.trimIdle)
	}
}

// end ends the first n that are idle. p.mu is held.
func (p *Pool[I]) end(n int) {
	for _, x := range p.idle[:n] {
		p.count(-x.held)
		x.instance.Close()
	}
	p.idle = append([]idle[I](nil), p.idle[n:]...)
}

func (p *Pool[I]) count(bytes int64) {
	if p.budget != nil {
		p.budget.held.Add(bytes)
	}
}
