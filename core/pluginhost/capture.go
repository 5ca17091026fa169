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
	quiet   bool // the process is being ended: what is said of that is no news
}

// logger is what go-plugin writes to for one process. Most of what it says itself is of no interest.
func (c *capture) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: c, DisableTime: true})
}

// hush drops what comes from now on.
func (c *capture) hush() {
	c.mu.Lock()
	c.quiet = true
	c.mu.Unlock()
}

// Write takes one line.
func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.quiet {
		c.mu.Unlock()
		return len(p), nil
	}
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
