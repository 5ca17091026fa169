package wasm

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/picloud/picloud/sdk/fault"
)

const (
	// memoryLimit bounds the memory of an instance where its bundle does not say. A module that was built from Go begins with 5 MB.
	memoryLimit = 64 << 20
	// memoryRoom bounds the memory of all instances together: the process may have 1 GB, see sdk/engine.Serve, of which code, stacks and
	// bodies need the rest.
	memoryRoom = 512 << 20
)

// budget is the memory that instances take together. Safe for concurrent use.
type budget struct {
	used    atomic.Int64
	relieve func() // gives back what nobody uses
}

func (b *budget) take(n int64) bool {
	for range 2 {
		if b.used.Add(n) <= memoryRoom {
			return true
		}
		b.used.Add(-n)
		b.relieve()
	}
	return false
}

// memory is that of one instance: addresses for all that it may have, of which only what it has asked for counts. It lies outside of
// the heap: the collector has no work with it, it never moves, and it is gone at once when the instance is.
type memory struct {
	budget  *budget
	limit   int
	space   []byte // all addresses
	size    int
	refused *fault.Fault // why it could not grow
}

// Reallocate is part of experimental.LinearMemory. The module sees a failure as the instruction's result.
func (m *memory) Reallocate(size uint64) []byte {
	if size > uint64(m.limit) {
		m.refused = fault.New(fault.Limit, fault.Script, "the script takes more than %d MB of memory", m.limit>>20)
		return nil
	}
	if m.space == nil {
		space, err := unix.Mmap(-1, 0, m.limit, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return m.full()
		}
		m.space = space
	}
	if more := int(size) - m.size; more > 0 {
		if !m.budget.take(int64(more)) {
			return m.full()
		}
		if err := unix.Mprotect(m.space[m.size:size], unix.PROT_READ|unix.PROT_WRITE); err != nil {
			m.budget.used.Add(-int64(more))
			return m.full()
		}
		m.size = int(size)
	}
	return m.space[:size:size]
}

func (m *memory) full() []byte {
	m.refused = fault.New(fault.Limit, fault.Script, "the app's WebAssembly scripts take more than %d MB of memory together", memoryRoom>>20)
	return nil
}

// Free is part of experimental.LinearMemory. It does nothing: the runtime calls it while code may still look at the memory.
func (m *memory) Free() {}

// release gives the memory back. The instance must have ended.
func (m *memory) release() {
	if m.space == nil {
		return
	}
	_ = unix.Munmap(m.space) // it was mapped, as a whole
	m.budget.used.Add(-int64(m.size))
	m.space, m.size = nil, 0
}
