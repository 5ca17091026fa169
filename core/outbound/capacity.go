package outbound

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"

	"github.com/picloud/picloud/sdk/fault"
)

// What requests may take of a node. Others wait for their turn, those of an app behind one another.
const (
	perApp    = 16
	perNode   = 128
	heldBytes = 64 << 20 // of bodies until they have been handed on, by all; that takes several times as much
)

// capacity shares a node among the requests of apps.
type capacity struct {
	node *semaphore.Weighted
	held atomic.Int64

	mu   sync.Mutex
	apps map[uuid.UUID]*share
}

// share is what an app has under way. It is kept as long as anything is.
type share struct {
	turns *semaphore.Weighted
	users int
}

func newCapacity() *capacity {
	return &capacity{node: semaphore.NewWeighted(perNode), apps: map[uuid.UUID]*share{}}
}

// enter waits for a turn, or for the end of ctx. release gives it back.
func (c *capacity) enter(ctx context.Context, app uuid.UUID) (release func(), err error) {
	c.mu.Lock()
	s := c.apps[app]
	if s == nil {
		s = &share{turns: semaphore.NewWeighted(perApp)}
		c.apps[app] = s
	}
	s.users++
	c.mu.Unlock()
	leave := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if s.users--; s.users == 0 {
			delete(c.apps, app)
		}
	}
	if err := s.turns.Acquire(ctx, 1); err != nil {
		leave()
		return nil, err
	}
	if err := c.node.Acquire(ctx, 1); err != nil {
		s.turns.Release(1)
		leave()
		return nil, err
	}
	return func() { c.node.Release(1); s.turns.Release(1); leave() }, nil
}

// take holds room for n bytes of a body, if there is any.
func (c *capacity) take(n int64) bool {
	if c.held.Add(n) > heldBytes {
		c.held.Add(-n)
		return false
	}
	return true
}

func (c *capacity) give(n int64) { c.held.Add(-n) }

// errFull says that there is no room now.
var errFull = func() error {
	f := fault.New(fault.Overloaded, fault.Script, "the node holds too many answers at once; try again")
	f.RetryAfter = time.Second
	return f
}()
