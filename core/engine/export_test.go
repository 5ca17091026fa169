package engine

import "time"

// SetNow gives a manager another clock.
func SetNow(c *Config, now func() time.Time) { c.now = now }

// Share sets how many processes may share the runs of an app, whatever the machine has.
func Share(c *Config, most int) { c.most = most }

// Sweep looks at all processes.
func (m *Manager) Sweep() { m.sweep() }
