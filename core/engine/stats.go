package engine

import (
	"maps"
	"sync"
)

// Stats is how the processes of a node stand.
type Stats struct {
	Processes   map[string]int   // by engine, spares included
	Spares      map[string]int   // by engine
	Starts      map[string]int64 // by engine, since the start of the node
	Recycles    map[string]int64 // by reason: runs, memory or age
	IdleStops   int64
	Crashes     int64
	Quarantined int // versions of scripts
}

// counters count what happens to processes.
type counters struct {
	mu       sync.Mutex
	alive    map[string]int
	starts   map[string]int64
	recycles map[string]int64
	idle     int64
	crashes  int64
}

func (c *counters) started(engine string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alive[engine]++
	c.starts[engine]++
}

func (c *counters) ended(engine string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alive[engine]--
}

func (c *counters) recycled(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recycles[reason]++
}

func (c *counters) stopped() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle++
}

func (c *counters) crashed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.crashes++
}

// Stats returns how the processes stand now.
func (m *Manager) Stats() Stats {
	s := Stats{Spares: m.spares.ready(), Quarantined: len(m.Quarantined())}
	c := &m.count
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Processes, s.Starts, s.Recycles = maps.Clone(c.alive), maps.Clone(c.starts), maps.Clone(c.recycles)
	s.IdleStops, s.Crashes = c.idle, c.crashes
	return s
}
