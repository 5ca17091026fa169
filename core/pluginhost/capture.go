package pluginhost

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Limits of what a plugin may write to the host's log.
const (
	captureLine   = 10_000 // bytes; the rest of a line is dropped
	captureLines  = 100    // in each captureWindow
	captureWindow = 10 * time.Second
)

// capture takes what one process prints on standard error. Lines over the limit are dropped and counted.
type capture struct {
	log hclog.Logger

	mu      sync.Mutex
	since   time.Time
	lines   int
	dropped int
	last    string
	fatal   string // see fatalLine
}

// line takes one line, cut to captureLine.
func (c *capture) line(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fatal == "" && isFatal(b) {
		c.fatal = strings.ToValidUTF8(string(b[:min(len(b), 200)]), "")
	}
	if now := time.Now(); now.Sub(c.since) > captureWindow {
		c.since, c.lines = now, 0
	}
	if c.lines++; c.lines > captureLines {
		c.dropped++
		return
	}
	c.report()
	if level, message, args := parseLine(b); message != "" {
		c.last = message
		c.log.Log(level, "plugin says", append([]any{"message", message}, args...)...)
	}
}

// report says how much was dropped since it was last said.
func (c *capture) report() {
	if c.dropped > 0 {
		c.log.Warn("plugin output dropped", "lines", c.dropped)
		c.dropped = 0
	}
}

// end reports what is left to say.
func (c *capture) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report()
}

// lastLine is the last thing that was said; empty if nothing was.
func (c *capture) lastLine() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// parseLine takes apart a line of hclog's JSON format. Any other line is a message as it is.
func parseLine(b []byte) (hclog.Level, string, []any) {
	var fields map[string]any
	if len(b) > 0 && b[0] == '{' && json.Unmarshal(b, &fields) == nil {
		level, _ := fields["@level"].(string)
		message, _ := fields["@message"].(string)
		if message != "" {
			var args []any
			for _, k := range slices.Sorted(maps.Keys(fields)) {
				if !strings.HasPrefix(k, "@") {
					args = append(args, k, fields[k])
				}
			}
			if l := hclog.LevelFromString(level); l != hclog.NoLevel {
				return l, message, args
			}
			return hclog.Info, message, args
		}
	}
	return hclog.Info, strings.ToValidUTF8(string(bytes.TrimSpace(b)), "�"), nil
}

// lines cuts a stream into lines for a capture. It is one writer's; the capture may have several.
type lines struct {
	to   *capture
	part []byte
}

// Write takes a piece of the stream. It never fails.
func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		piece, rest, whole := bytes.Cut(p, []byte{'\n'})
		l.part = append(l.part, piece[:min(len(piece), captureLine-len(l.part))]...)
		if whole {
			l.flush()
		}
		p = rest
	}
	return n, nil
}

func (l *lines) flush() {
	if len(l.part) > 0 {
		l.to.line(l.part)
		l.part = l.part[:0]
	}
}
