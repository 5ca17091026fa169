package retry

import "time"

// Back-off of a process that keeps dying: the first death costs nothing, then each doubles the wait. A process that lived for
// crashForget is a fresh start.
const (
	crashPause  = 100 * time.Millisecond
	crashCap    = 30 * time.Second
	crashForget = time.Minute
)

// Crashes says when a process that keeps dying may be started again. The zero value has seen none. Not safe for concurrent use.
type Crashes struct {
	n    int
	born time.Time
}

// Started says that a process was started, or could not be.
func (c *Crashes) Started(at time.Time) { c.born = at }

// Died says that the process has ended without being told to.
func (c *Crashes) Died(at time.Time) {
	if at.Sub(c.born) > crashForget {
		c.n = 0
	}
	c.n++
}

// Row is how many have died in a row.
func (c *Crashes) Row() int { return c.n }

// Wait is how long no process may be started yet.
func (c *Crashes) Wait(now time.Time) time.Duration {
	if c.n < 2 {
		return 0
	}
	return max(0, c.born.Add(min(crashPause<<min(c.n-2, 16), crashCap)).Sub(now))
}
