package yaegi

import (
	"sync"

	"github.com/picloud/picloud/sdk/fault"
)

// maxChildren is how many goroutines of one run may live at a time where its limits do not say.
const maxChildren = 1000

// children are the goroutines that a script has started. Safe for concurrent use.
type children struct {
	mu   sync.Mutex
	live int
	none chan struct{} // closed when the last has ended; nil while there is none
}

// add counts one more, unless there are most.
func (c *children) add(most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live >= most {
		return false
	}
	if c.live++; c.live == 1 {
		c.none = make(chan struct{})
	}
	return true
}

func (c *children) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live--; c.live == 0 {
		close(c.none)
		c.none = nil
	}
}

// left is closed when all have ended; nil: they have.
func (c *children) left() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.none
}

// spawn runs f beside the script. In Go a panic there, or too many of them, would end the process; here it ends the run.
func (in *interpreter) spawn(f func()) {
	if !in.ready.Load() { // blocked there, nothing would end it
		in.Fail(fault.New(fault.Compile, fault.Script, "the script's initialisers start a goroutine: start it in Handle"))
		return
	}
	if most := in.source.limits.Goroutines; !in.children.add(most) {
		in.Fail(fault.New(fault.Limit, fault.Script, "the script has more than %d goroutines at a time", most))
		return
	}
	go func() {
		defer in.children.done()
		defer func() {
			if p := recover(); p != nil {
				in.Fail(in.panicked(p, "the script panicked in a goroutine"))
			}
		}()
		f()
	}()
}

// size looks at a number that make is asked for: memory that cannot be had would end the process.
func size(count, each int) int {
	if count > most/each {
		panic(tooLarge())
	}
	return count
}

// grow looks at how long a slice becomes that gets more elements, and returns more.
func grow(count, more, each int) int {
	size(count+more, each)
	return more
}

// add looks at how long a text becomes.
func add(a, b string) string {
	size(len(a)+len(b), 1)
	return a + b
}

func tooLarge() *fault.Fault {
	return fault.New(fault.Limit, fault.Script, "the script asked for a value of more than %d MB", most>>20)
}
