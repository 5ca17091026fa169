package script

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/picloud/picloud/sdk/fault"
)

// instance counts how often it was closed.
type instance struct {
	holds  int
	closed atomic.Int32
}

func (i *instance) Close()     { i.closed.Add(1) }
func (i *instance) Holds() int { return i.holds }

func TestPool(t *testing.T) {
	t.Parallel()
	p := NewPool[*instance](2, nil)
	if _, ok := p.Take(); ok {
		t.Error("it made something of nothing")
	}
	a, b := &instance{}, &instance{}
	p.Keep(a)
	p.Keep(b)
	if got, _ := p.Take(); got != b {
		t.Error("the one that was used last is not used next")
	}
	p.Close()
	p.Keep(b)
	if a.closed.Load() != 1 || b.closed.Load() != 1 {
		t.Error("not each is closed once")
	}
}

func TestPoolHasRoom(t *testing.T) {
	t.Parallel()
	p := NewPool[*instance](1, nil)
	if err := p.Enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if f := fault.From(p.Enter(ctx)); f == nil || f.Kind != fault.Deadline {
		t.Errorf("a second run: %v", f)
	}
	p.Leave()
	if err := p.Enter(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	budget := &Budget{Bytes: 10}
	p, q := NewPool[*instance](0, budget), NewPool[*instance](0, budget)
	a, b, c := &instance{holds: 6}, &instance{holds: 5}, &instance{holds: 4}
	p.Keep(a)
	q.Keep(b) // too much
	q.Keep(c)
	if a.closed.Load() != 0 || b.closed.Load() != 1 || c.closed.Load() != 0 {
		t.Error("not the one that is too much is closed")
	}
	p.Take()
	q.Drop()
	if held := budget.held.Load(); held != 0 || c.closed.Load() != 1 {
		t.Errorf("%d bytes are counted", held)
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	p := NewPool[*instance](0, nil)
	p.Replace(func(context.Context) (*instance, error) { return nil, errors.New("no") })
	made := make(chan *instance)
	p.Replace(func(context.Context) (*instance, error) { i := &instance{}; made <- i; return i, nil })
	first := <-made
	for _, ok := p.Take(); !ok; _, ok = p.Take() { // it is on its way
		runtime.Gosched()
	}
	p.Keep(first)
	p.Replace(func(context.Context) (*instance, error) { t.Error("nothing is missing"); return nil, nil })
}

func TestTrim(t *testing.T) {
	t.Parallel()
	p := NewPool[*instance](0, nil)
	old, young, last := &instance{}, &instance{}, &instance{}
	for _, i := range []*instance{old, young, last} {
		p.Keep(i)
	}
	p.mu.Lock()
	p.idle[0].since = time.Now().Add(-time.Hour)
	p.idle[2].since = time.Now().Add(-time.Hour)
	p.mu.Unlock()
	p.trimIdle()
	if old.closed.Load() != 1 || young.closed.Load() != 0 || last.closed.Load() != 0 {
		t.Error("not the old one is closed")
	}
	p.Close()
}
