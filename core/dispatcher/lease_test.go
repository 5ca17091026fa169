package dispatcher

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// leaseNode is one node as the model sees it.
type leaseNode struct {
	lease   lease
	sent    int64 // when the heartbeat on its way was sent; zero: none is
	cut     bool  // from the database
	frozen  bool
	session int64 // when its session with the server began; zero: it has none
	locked  bool  // the session holds the lock of the epoch
}

// leaseWorld is a database and its nodes, by the rules of core/postgres/node.go, in simulated time.
type leaseWorld struct {
	now   int64
	last  int64           // epoch
	beats map[int64]int64 // by live epoch
	nodes []*leaseNode
}

func (w *leaseWorld) clock() int64 { return w.now }

// Timing of the take-over, as in core/postgres/node.go.
const (
	lateFree = 5 * time.Second  // since the heartbeat, with a free lock
	lateHeld = 10 * time.Second // whoever holds the lock
	settled  = 10 * time.Second // that the session of who evicts must have lasted
)

// pulse is one heartbeat of a node, which may reach the database later than it was sent. It returns the epochs that the
// node evicts with it.
func (w *leaseWorld) pulse(n *leaseNode) (evicted []int64) {
	if n.session == 0 {
		n.session = w.now
	}
	epoch := n.lease.Epoch()
	if _, live := w.beats[epoch]; !live {
		w.last++
		w.beats[w.last] = w.now
		n.lease.renew(w.last, n.sent)
		n.locked = true
		return nil
	}
	w.beats[epoch] = w.now
	n.lease.renew(epoch, n.sent)
	n.locked = true
	if w.now-n.session < int64(settled) {
		return nil
	}
	for other, beat := range w.beats {
		age := time.Duration(w.now - beat)
		if other != epoch && (age > lateHeld || age > lateFree && !w.held(other)) {
			delete(w.beats, other)
			evicted = append(evicted, other)
		}
	}
	return evicted
}

// held reports whether a session holds the lock of an epoch: that of a process which is cut off or frozen does.
func (w *leaseWorld) held(epoch int64) bool {
	for _, n := range w.nodes {
		if n.lease.Epoch() == epoch && n.locked {
			return true
		}
	}
	return false
}

// Whatever is frozen, cut off, slow or restarted: when a node's epoch is taken over, the node itself has known for a while
// that it must not act. And a restart of the server alone takes nothing from anybody.
func TestLeaseModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := &leaseWorld{beats: map[int64]int64{}, now: int64(time.Hour)}
		for range 3 {
			n := &leaseNode{}
			n.lease.now = w.clock
			w.nodes = append(w.nodes, n)
		}
		trouble := false // somebody was frozen or cut off: only then may anything be taken over
		for range rapid.IntRange(100, 600).Draw(rt, "steps") {
			w.now += int64(rapid.IntRange(50, 600).Draw(rt, "ms")) * int64(time.Millisecond)
			n := w.nodes[rapid.IntRange(0, 2).Draw(rt, "node")]
			switch rapid.IntRange(0, 150).Draw(rt, "what") {
			case 0, 1:
				n.frozen, trouble = !n.frozen, true
			case 2, 3:
				n.cut, trouble = !n.cut, true
			case 4: // the server restarts
				for _, n := range w.nodes {
					n.session, n.locked = 0, false
				}
			case 5: // the process dies and its session with it; another begins
				n.session, n.locked, n.sent = 0, false, 0
				n.lease.lose()
			}
			for _, n := range w.nodes {
				if n.frozen {
					continue
				}
				if n.sent == 0 {
					n.sent = w.now // on its way until the database answers
				}
				if n.cut || w.now-n.sent > int64(beatLimit) && rapid.Bool().Draw(rt, "given up") {
					n.sent = 0
					continue
				}
				if rapid.IntRange(0, 3).Draw(rt, "slow") == 0 {
					continue
				}
				for _, epoch := range w.pulse(n) {
					for _, owner := range w.nodes {
						if owner.lease.Epoch() == epoch && owner.lease.Valid() {
							rt.Fatalf("epoch %d was taken over while its node believed in it", epoch)
						}
					}
					if owner := w.owner(epoch); !trouble && owner != nil && w.now-owner.lease.good.Load() < int64(lateFree) {
						rt.Fatalf("epoch %d was taken over without need", epoch)
					}
				}
				n.sent = 0
			}
		}
	})
}

func (w *leaseWorld) owner(epoch int64) *leaseNode {
	for _, n := range w.nodes {
		if n.lease.Epoch() == epoch {
			return n
		}
	}
	return nil
}
