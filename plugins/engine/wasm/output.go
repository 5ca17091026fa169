package wasm

import (
	"bytes"
	"strings"
	"time"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// output is what a run has said.
type output struct {
	run   *run
	limit int
	bytes []byte
}

// Write fails, and ends the run, where there is more than an answer can be made of.
func (o *output) Write(p []byte) (int, error) {
	if len(p) > o.limit-len(o.bytes) {
		f := fault.New(fault.Limit, fault.Script, "the script has written more than %d bytes of answer", o.limit)
		o.run.Fail(f)
		return 0, f
	}
	o.bytes = append(o.bytes, p...)
	return len(p), nil
}

const (
	lineBytes = 64 << 10 // a longer line is cut
	tailBytes = 8 << 10  // of what was written to standard error are told with a failure, in whole lines
	tailLine  = 4 << 10  // of each of them
)

// console takes what a module writes for people: each line is logged.
type console struct {
	run  *run
	line []byte
	tail []byte
}

func (c *console) Write(p []byte) (int, error) {
	for rest, ends := p, true; ends && c.run.ctx.Err() == nil; {
		var piece []byte
		piece, rest, ends = bytes.Cut(rest, []byte("\n"))
		if room := lineBytes - len(c.line); len(piece) <= room {
			c.line = append(c.line, piece...)
		} else if room >= 0 { // once
			c.line = append(append(c.line, piece[:room]...), "…"...)
		}
		if ends {
			c.flush()
		}
	}
	return len(p), nil
}

// flush logs what there is of a line.
func (c *console) flush() {
	text := strings.ToValidUTF8(strings.TrimRight(string(c.line), "\r"), "\uFFFD")
	if c.line = c.line[:0]; strings.TrimSpace(text) == "" {
		return
	}
	c.run.inv.Log(engine.Log{Time: time.Now(), Level: "info", Message: text})
	c.tail = append(append(c.tail, fault.Cut(text, tailLine)...), '\n')
	if len(c.tail) > 2*tailBytes {
		c.tail = append(c.tail[:0], lastLines(c.tail)...)
	}
}

// lastLines is the end of a tail. It begins with a line, since a part of one could be a part of a secret.
func lastLines(tail []byte) []byte {
	if len(tail) <= tailBytes {
		return tail
	}
	_, whole, _ := bytes.Cut(tail[len(tail)-tailBytes:], []byte("\n"))
	return whole
}

// said returns the end of what was written, and of that the line that says what is wrong: the last, or the one by which the runtimes of Go
// and Rust tell of a panic, which more lines follow.
func (c *console) said() (line, tail string) {
	tail = strings.ToValidUTF8(strings.TrimRight(string(lastLines(c.tail)), "\n"), "\uFFFD")
	lines := strings.Split(tail, "\n")
	for i, l := range lines {
		switch {
		case strings.HasPrefix(l, "panic: "), strings.HasPrefix(l, "fatal error: "):
			return l, tail
		case strings.HasPrefix(l, "thread '") && strings.Contains(l, " panicked at ") && i+1 < len(lines):
			return "panic: " + lines[i+1], tail
		}
	}
	return lines[len(lines)-1], tail
}
