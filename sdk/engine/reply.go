package engine

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin"
)

// headBytes bounds the headers of an answer, each counted with headerBytes more: they travel in one message, outside of
// the credit for the body.
const (
	headBytes   = 1 << 20
	headerBytes = 32
)

// reply holds the beginning of an answer back, so that a small one leaves as one message.
type reply struct {
	run  *served
	head *Head // not sent yet
	held []byte
	sent bool
}

func (r *reply) Head(h Head) error {
	if r.head != nil || r.sent {
		return fmt.Errorf("the answer has a head already")
	}
	size := 0
	for _, x := range h.Headers {
		size += len(x.Name) + len(x.Value) + headerBytes
	}
	if size > headBytes {
		return fault.New(fault.Limit, fault.Script, "the headers of the answer have %d bytes, more than %d", size, headBytes)
	}
	h.Headers = slices.Clone(h.Headers)
	r.head = &h
	return nil
}

func (r *reply) Write(p []byte) (int, error) {
	if r.head == nil && !r.sent {
		return 0, fmt.Errorf("an answer begins with its head")
	}
	if !r.sent && r.held == nil && len(p) <= plugin.ChunkBytes {
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
	r.head, r.sent = nil, true
	return r.run.send(m)
}
