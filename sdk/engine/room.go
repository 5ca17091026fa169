package engine

import "sync/atomic"

// Room bounds how many runs there are at one time. A run that waits for another one lends its place meanwhile, or those that wait
// could keep out all that they wait for. Safe for concurrent use.
type Room struct {
	places chan struct{} // one token for each run that has a place
	beside atomic.Int64  // runs without one; negative: some that have left while their place was lent
}

// NewRoom makes a room for n runs.
func NewRoom(n int) *Room { return &Room{places: make(chan struct{}, n)} }

// Places takes one value for each run that enters.
func (r *Room) Places() chan<- struct{} { return r.places }

// Leave ends what entering began.
func (r *Room) Leave() {
	if r.step(1, -1) {
		return
	}
	select {
	case <-r.places:
	default:
		r.beside.Add(-1)
	}
}

// Lend gives a place to others until back is called. If it is taken then, both go on.
func (r *Room) Lend() (back func()) {
	r.Leave()
	return func() {
		if r.step(-1, 1) {
			return
		}
		select {
		case r.places <- struct{}{}:
		default:
			r.beside.Add(1)
		}
	}
}

// step moves beside by one towards zero, if it is on that side of it.
func (r *Room) step(side, by int64) bool {
	for n := r.beside.Load(); n*side > 0; n = r.beside.Load() {
		if r.beside.CompareAndSwap(n, n+by) {
			return true
		}
	}
	return false
}
