package source

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// houses keeps the processes: one of a kind, while somebody uses it. Safe for concurrent use.
type houses struct {
	launch LaunchFunc

	mu   sync.Mutex
	live map[string]*house // by kind
}

// house is a process, or the start of one.
type house struct {
	Process
	kind  string
	users int
	ready chan struct{}
	err   error // why it was not started; read it after ready, like Process
}

// enter returns the process of a kind, and starts it where there is none; leave gives it back. Who comes while it starts shares the start.
func (h *houses) enter(ctx context.Context, kind string) (*house, error) {
	h.mu.Lock()
	x := h.live[kind]
	if x == nil || x.gone() {
		x = &house{kind: kind, ready: make(chan struct{})}
		h.live[kind] = x
		go func() {
			x.Process, x.err = h.launch(context.WithoutCancel(ctx), "source/"+kind)
			close(x.ready)
		}()
	}
	x.users++
	h.mu.Unlock()
	<-x.ready // within the limit of a start
	if x.err != nil {
		h.leave(x)
		return nil, x.err
	}
	return x, nil
}

// gone reports whether the process has ended, or was not started.
func (x *house) gone() bool {
	select {
	case <-x.ready:
	default:
		return false
	}
	if x.err != nil {
		return true
	}
	select {
	case <-x.Done():
	case <-x.Source().Lost():
	default:
		return false
	}
	return true
}

// leave ends the process where nobody else uses it.
func (h *houses) leave(x *house) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x.users--; x.users > 0 {
		return
	}
	if h.live[x.kind] == x {
		delete(h.live, x.kind)
	}
	if x.err == nil {
		x.Kill()
	}
}

func (h *houses) running() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.live))
}
