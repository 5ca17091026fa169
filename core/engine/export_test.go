package engine

import "time"

// Two is how many processes may share the runs of an app in a test, whatever the machine has.
const Two = 2

// NewAt makes a manager with another clock.
func NewAt(cfg Config, now func() time.Time) *Manager { return newManager(cfg, now, Two) }

// Sweep looks at all processes.
func (m *Manager) Sweep() { m.sweep() }
