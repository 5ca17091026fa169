package engine

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin"
)

// headBytes bounds the headers of an answer, each counted with headerBytes more: they travel in one message, outside of
// the credit for the body.
const (
	headBytes   = 1 << 20
	headerBytes = 32
)

// holdFor is how long the beginning of an answer waits for the rest. Most answers are whole at once and leave as one
// message; one that comes slowly is seen in time all the same.
const holdFor = 10 * time.Millisecond

// reply is the answer of a run in the engine. It holds the beginning back for a moment.
type reply struct {
	run   *served
	limit int // bytes; zero: none

	mu      sync.Mutex // against the timer
	timer   *time.Timer
	head    *Head // not sent yet
	held    []byte
	begun   bool // there has been a head
	written int
}

var (
	errHead   = errors.New("an answer has one head")
	errNoHead = errors.New("an answer begins with its head")
)

func (r *reply) Head(h Head) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun {
		return errHead
	}
	size := 0
	for _, x := range h.Headers {
		size += len(x.Name) + len(x.Value) + headerBytes
	}
	if size > headBytes {
		return fault.New(fault.Limit, fault.Script, "the headers of the answer have %d bytes, more than %d", size, headBytes)
	}
	h.Headers = slices.Clone(h.Headers)
	r.head, r.begun = &h, true
	r.timer = time.AfterFunc(r.run.session.server.hold, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		_ = r.flush() // a run that is over has no use for it
	})
	return nil
}

func (r *reply) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.begun {
		return 0, errNoHead
	}
	if r.limit > 0 && len(p) > r.limit-r.written {
		return 0, fault.New(fault.Limit, fault.Script, "the answer has more than %d bytes", r.limit)
	}
	r.written += len(p)
	if r.head != nil && r.held == nil && len(p) <= plugin.ChunkBytes {
		n, err := r.run.window.Take(r.run.ctx, len(p))
		if err != nil {
			return 0, err
		}
		r.held = append(make([]byte, 0, n), p...) // the window is full-sized at the beginning, so this is all of p
		return n, nil
	}
	if err := r.flush(); err != nil {
		return 0, err
	}
	written := 0
	for written < len(p) {
		n, err := r.run.window.Take(r.run.ctx, min(len(p)-written, plugin.ChunkBytes))
		if err != nil {
			return written, err
		}
		if err := r.output(bytes.Clone(p[written : written+n])); err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// flush sends what is held back.
func (r *reply) flush() error {
	if r.head == nil {
		return nil
	}
	held := r.held
	r.held = nil
	return r.output(held)
}

func (r *reply) output(data []byte) error {
	m, _ := outputMessage(r.head, data)
	r.head = nil
	return r.run.send(m)
}

// end sends the last message of the run, with what is held back. A run that failed before anything of its answer left
// has no other answer than that.
func (r *reply) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
	if err != nil {
		r.head, r.held = nil, nil
	}
	m, o := outputMessage(r.head, r.held)
	o.End, o.Fault = true, plugin.FaultToWire(err)
	r.head, r.held = nil, nil
	_ = r.run.send(m)
}
