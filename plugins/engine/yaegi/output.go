package yaegi

import (
	"bytes"
	"strings"
	"sync"
	"time"

	"github.com/picloud/picloud/sdk/engine"
)

// output is what a script prints: lines go to its log, what the interpreter says of a panic is kept for the fault.
type output struct {
	mu    sync.Mutex
	inv   *engine.Invocation
	trace trace
	rest  []byte
}

func (o *output) begin(inv *engine.Invocation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.inv = inv
}

// end writes a last line without an end.
func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.rest) > 0 {
		o.line(o.rest)
		o.rest = nil
	}
	o.inv = nil
	o.trace.take()
}

func (o *output) line(b []byte) {
	if o.inv != nil {
		o.inv.Log(engine.Log{Time: time.Now(), Level: "info", Message: string(b)})
	}
}

// printedLine bounds a line that a script prints without ending it.
const printedLine = 10_000

// Write takes what a script prints.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(p)
	for {
		line, rest, found := bytes.Cut(p, []byte("\n"))
		if !found {
			if room := printedLine - len(o.rest); len(p) <= room {
				o.rest = append(o.rest, p...)
			} else if room >= 0 { // once
				o.rest = append(append(o.rest, p[:room]...), "…"...)
			}
			return n, nil
		}
		o.line(append(o.rest, line...))
		o.rest, p = nil, rest
	}
}

// trace keeps the first words that the interpreter says of a panic: where in the script it was.
type trace struct {
	mu   sync.Mutex
	text []byte
}

const traceBytes = 2000

func (t *trace) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p[:min(len(p), traceBytes-len(t.text))]...)
	return len(p), nil
}

func (t *trace) take() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.text))
	t.text = t.text[:0]
	return text
}
