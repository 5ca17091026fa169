package engine

import (
	"fmt"
	"sync"
	"time"
)

// What a run may log where its bundle does not say otherwise, and what travels together: a batch leaves when it holds so
// many lines or bytes.
const (
	defaultLogLines = 1000
	defaultLogBytes = 256 << 10
	batchLines      = 64
	batchBytes      = 64 << 10
)

// lineBytes bounds one line, whatever its run may log in all: it must fit into a message.
const lineBytes = 1 << 20

// logBuffer gathers the lines of a run and drops those over its limits. Safe for concurrent use.
type logBuffer struct {
	mu      sync.Mutex
	lines   []Log
	bytes   int // in lines
	left    int // lines
	room    int // bytes
	dropped int
	closed  bool
}

func (b *logBuffer) limit(l Limits) {
	b.left, b.room = l.LogLines, l.LogBytes
	if b.left == 0 {
		b.left = defaultLogLines
	}
	if b.room == 0 {
		b.room = defaultLogBytes
	}
}

// add keeps a line, and returns a batch when there is one to send. A line after finish is nobody's.
func (b *logBuffer) add(l Log) []Log {
	b.mu.Lock()
	defer b.mu.Unlock()
	size := len(l.Message) + len(l.Data)
	if b.closed || b.left == 0 || size > min(b.room, lineBytes) {
		b.dropped++
		return nil
	}
	b.left--
	b.room -= size
	b.bytes += size
	if b.lines = append(b.lines, l); len(b.lines) < batchLines && b.bytes < batchBytes {
		return nil
	}
	return b.take()
}

func (b *logBuffer) take() []Log {
	lines := b.lines
	b.lines, b.bytes = nil, 0
	return lines
}

// finish returns what is left, and a line that counts what was dropped.
func (b *logBuffer) finish() []Log {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.dropped > 0 {
		b.lines = append(b.lines, Log{
			Time: time.Now(), Level: "warn", Message: fmt.Sprintf("%d log lines over the limit were dropped", b.dropped),
		})
	}
	return b.take()
}
