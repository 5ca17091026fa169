package js

import "sync"

// trackerTable finds what belongs to the contexts of interpreters. Safe for concurrent use.
type trackerTable struct {
	mu sync.RWMutex
	of map[uintptr]*native
}

func (t *trackerTable) add(n *native) {
	t.mu.Lock()
	t.of[n.ctx] = n
	t.mu.Unlock()
}

func (t *trackerTable) find(ctx uintptr) *native {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.of[ctx]
}

func (t *trackerTable) remove(n *native) {
	t.mu.Lock()
	delete(t.of, n.ctx)
	t.mu.Unlock()
}
