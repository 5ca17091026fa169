package pluginhost

import (
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Limits of what a plugin may write to the host's log.
const (
	captureLine   = 10_000 // bytes
	captureLines  = 100    // in each captureWindow
	captureWindow = 10 * time.Second
)

// capture is where a plugin's own log and its standard error end: cut, counted and dropped over the limit.
type capture struct {
	log hclog.Logger

	mu      sync.Mutex
	since   time.Time
	lines   int
	dropped int
}

// newCapture makes the logger that go-plugin writes to for one process. Most of what it says itself is of no interest.
func newCapture(log hclog.Logger) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: &capture{log: log}, DisableTime: true})
}

// Write takes one line.
func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	now := time.Now()
	if now.Sub(c.since) > captureWindow {
		c.since, c.lines = now, 0
	}
	c.lines++
	over := c.lines > captureLines
	if over {
		c.dropped++
	}
	dropped := c.dropped
	if !over {
		c.dropped = 0
	}
	c.mu.Unlock()
	if over {
		return len(p), nil
	}
	if dropped > 0 {
		c.log.Warn("plugin output dropped", "lines", dropped)
	}
	line := strings.TrimSpace(string(p[:min(len(p), captureLine)]))
	c.log.Info("plugin output", "line", strings.ToValidUTF8(line, "�"))
	return len(p), nil
}
