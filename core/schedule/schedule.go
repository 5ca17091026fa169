// Package schedule decides which run starts next on a node: fairly among apps, by the engine time that they use. Pure and
// not safe for concurrent use: the dispatcher brings the time and holds a lock.
//
// Each app has a virtual time, which grows with the engine time of its runs; of those that wait, the app whose virtual time
// is the least goes next (start-time fair queueing: Goyal, Vin, Cheng, SIGCOMM 1996). What a run takes is not known before
// its end: it is charged the app's usual time when it starts, and the difference when it ends. So an app whose runs are
// slow is as noisy as one that has many, and whoever was idle has no claim on the past.
package schedule

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Class is what kind of run a ticket is for.
type Class uint8

// The classes. Retries are of async runs only: whatever was tried before, or is put back in numbers.
const (
	Sync Class = iota
	Fresh
	Retry
)

// Ticket is one run on its way; it is used once. The exported fields are the caller's.
type Ticket struct {
	App    uuid.UUID
	Weight int // the app's share, relative to those of others; zero: one
	Class  Class
	Moved  chan struct{} // for the caller to wait on
	Void   bool          // it had a slot and did not run: nothing is learnt from it
	Lent   chan struct{} // the ticket has the slot of another run, and is none of the Scheduler's; nil: it is

	flow    *flow
	next    *Ticket
	state   state
	began   int64
	charged float64
}

type state uint8

const (
	outside  state = iota
	hoping         // for room
	expected       // has room
	waiting        // for a slot
	running
)

// Scheduler has the slots of a node. Make one with New.
type Scheduler struct {
	// Alone says that there is one app only, for whom nothing has to be kept free. It may be set at any time.
	Alone bool

	slots       int
	sync, async pool
	moved       []*Ticket // by the call that is in progress
	asyncNext   bool      // on a single slot
}

// pool is those who wait for, and use, the slots of sync or of async runs.
type pool struct {
	of      *Scheduler
	own     int // slots that the other pool does not take while this one waits
	most    int
	reserve int           // of most: only for apps that use none
	rooms   int           // tickets that may be expected and wait
	spare   int           // of rooms: only for apps that use none
	hopes   int           // tickets that may wait for room
	ahead   time.Duration // how much work an app may have in memory beyond what runs; zero: any

	running  int
	held     int // expected and waiting
	waiting  int
	hoping   int
	virtual  float64 // of the run that started last
	flows    map[uuid.UUID]*flow
	awaiting []*flow // those with waiting tickets
	hopers   []*flow // those with tickets that hope
}

// flow is one app in one pool.
type flow struct {
	pool     *pool
	app      uuid.UUID
	weight   float64
	virtual  float64
	usual    float64 // seconds that a run takes: a moving average
	running  int
	held     int
	hopers   list
	fresh    list
	retries  list
	sinceTry int // fresh starts since the last retry
}

// The shares of the slots.
const (
	// unknown is what a run of an app is taken to need before the first has ended.
	unknown = 10 * time.Millisecond
	// horizon is how much work an app may have in memory beyond what runs: enough to bridge a claim, little enough that
	// slow runs are left to nodes that have a slot for them.
	horizon = 100 * time.Millisecond
	// freshFirst is how many fresh runs of an app start for each of its retries while both wait.
	freshFirst = 4
	// maxCorrection bounds what the end of a run adds to an app's virtual time, in seconds: what nobody could know before is
	// not held against it for long, but an app of whose runs some are very slow pays for those.
	maxCorrection = 10.0
)

// New makes a scheduler for n slots. Sync runs have half of them for themselves and may use all; async ones may use three
// quarters. Two entries a slot may wait in memory, for each of both, and so many callers for one of those places.
func New(n, callers int) *Scheduler {
	half := max(1, n/2)
	async := max(1, n*3/4)
	reserve := func(most int) int { return min(max(2, n/10), most/4) }
	s := &Scheduler{slots: n}
	s.sync = pool{own: half, most: n, reserve: reserve(n), hopes: callers}
	s.async = pool{own: max(1, n-half), most: async, reserve: reserve(async), ahead: horizon}
	for _, p := range []*pool{&s.sync, &s.async} {
		p.of, p.rooms, p.spare, p.flows = s, 2*n, n/2, map[uuid.UUID]*flow{}
	}
	return s
}

func (s *Scheduler) pool(c Class) *pool {
	if c == Sync {
		return &s.sync
	}
	return &s.async
}

// Expect makes room for up to n async entries of an app that are about to be written or claimed, and returns for how many.
// Each is followed by Enter, or returned with Forgo.
func (s *Scheduler) Expect(app uuid.UUID, n int) int {
	p := &s.async
	f := p.flow(app)
	n = max(0, min(n, p.roomFor(f)))
	f.held += n
	p.held += n
	p.tidy(f)
	return n
}

// Claim is Expect for entries that have to be claimed: none before half of what the app may have in memory is free, so that
// a claim is worth its statement.
func (s *Scheduler) Claim(app uuid.UUID, n int) int {
	p := &s.async
	f := p.flow(app)
	if f.held > p.roomFor(f) {
		return 0
	}
	return s.Expect(app, n)
}

// Compare says which of two apps is to have entries claimed first, as cmp.Compare does: the one whose turn was longer ago.
func (s *Scheduler) Compare(a, b uuid.UUID) int {
	last := func(app uuid.UUID) float64 {
		if f := s.async.flows[app]; f != nil {
			return f.virtual
		}
		return 0
	}
	return cmp.Compare(last(a), last(b))
}

// Claimable reports whether Claim would make room.
func (s *Scheduler) Claimable(app uuid.UUID) bool {
	p := &s.async
	f := p.flows[app]
	if f == nil {
		f = &flow{pool: p, usual: unknown.Seconds()}
	}
	return p.roomFor(f) > max(0, f.held-1)
}

// Load is what one pool has.
type Load struct{ Running, Waiting int }

// Loads are those of sync and of async runs.
func (s *Scheduler) Loads() (sync, async Load) {
	return Load{s.sync.running, s.sync.held + s.sync.hoping}, Load{s.async.running, s.async.held}
}

// Room is how many entries the node has room for, whosever they are.
func (s *Scheduler) Room() int {
	return max(0, s.async.most-s.async.running) + s.async.rooms - s.async.held
}

// Free is how many async runs of an app would start now, of those that are not in memory yet: zero, or at least one. Who waits goes
// before it, but what is kept for apps that run nothing is not for those that do.
func (s *Scheduler) Free(app uuid.UUID) int {
	p := &s.async
	most := min(p.most-p.running, s.slots-s.sync.running-p.running)
	f := p.flows[app]
	if f != nil && f.running > 0 {
		return max(0, most-p.kept()-p.held)
	}
	kept := min(most, p.kept())
	if f != nil {
		kept -= f.held
	}
	for _, other := range p.awaiting {
		if other != f && other.running == 0 {
			kept--
		}
	}
	return max(0, most-p.held, kept)
}

// Forgo returns room that was made by Expect or Claim and is not used.
func (s *Scheduler) Forgo(app uuid.UUID, n int) {
	f := s.async.flow(app)
	f.held -= n
	s.async.held -= n
	s.async.tidy(f)
}

// Ask asks for room for a sync ticket, which Enter or Leave follows. False: too many wait for that already. A ticket that
// has to wait for room Hopes until another call returns it.
func (s *Scheduler) Ask(t *Ticket) bool {
	p := &s.sync
	f := p.flow(t.App)
	t.flow = f
	switch {
	case f.hopers.empty() && p.roomFor(f) > 0:
		t.state = expected
		f.held++
		p.held++
	case p.hoping >= p.hopes || !f.hopers.empty() && p.hoping >= p.hopes-p.hopes/4:
		return false // the last places are for apps of which nobody waits
	default:
		if t.state = hoping; f.hopers.empty() {
			p.hopers = append(p.hopers, f)
		}
		f.hopers.push(t)
		p.hoping++
	}
	return true
}

// roomFor is how many more entries of the app are worth having in memory: what could start at once, and what its runs will
// have come to within the horizon. Of what is kept for apps that use nothing, an app takes one.
func (p *pool) roomFor(f *flow) int {
	room := p.room(f, f.running > 0, f.held > 0)
	if room > 1 {
		room = max(1, p.room(f, true, true))
	}
	return room
}

// room is roomFor of an app that runs something, or holds something.
func (p *pool) room(f *flow, runs, holds bool) int {
	free := p.most - p.running
	limit := p.rooms
	if runs {
		free -= p.kept()
	}
	if holds {
		limit -= p.spare
	}
	free = max(0, free)
	room := free + limit - p.held
	if p.ahead > 0 {
		ahead := float64(p.most) * p.ahead.Seconds() / f.usual
		room = min(room, free+int(min(ahead, float64(p.rooms)))-f.held)
	}
	return room
}

// Enter has a ticket for which there is room wait for a slot. It returns those that have moved, valid until the next call:
// this one too, perhaps, when it starts at once.
func (s *Scheduler) Enter(t *Ticket, now int64) []*Ticket {
	p := s.pool(t.Class)
	f := p.flow(t.App)
	f.weight = float64(max(1, t.Weight))
	t.flow, t.state = f, waiting
	if f.fresh.empty() && f.retries.empty() {
		f.virtual = max(f.virtual, p.virtual)
		p.awaiting = append(p.awaiting, f)
	}
	f.queue(t.Class).push(t)
	p.waiting++
	return s.start(now)
}

// Leave takes a ticket out, wherever it is, and returns those that have moved, valid until the next call.
func (s *Scheduler) Leave(t *Ticket, now int64) []*Ticket {
	f := t.flow
	p := f.pool
	switch t.state {
	case hoping:
		f.hopers.remove(t)
		p.hoping--
		p.hopers = without(p.hopers, f, f.hopers.empty())
	case expected:
		f.held--
		p.held--
	case waiting:
		f.queue(t.Class).remove(t)
		f.held--
		p.held--
		p.waiting--
		p.settle(f)
	case running:
		took := time.Duration(now - t.began).Seconds()
		if !t.Void {
			f.usual += (max(took, 1e-6) - f.usual) / 8
		}
		f.virtual += min(took-t.charged, maxCorrection) / f.weight
		f.running--
		p.running--
	}
	t.state = outside
	p.tidy(f)
	return s.start(now)
}

// Hopes reports whether a ticket waits for room.
func (t *Ticket) Hopes() bool { return t.state == hoping }

// Started reports whether a ticket has a slot.
func (t *Ticket) Started() bool { return t.state == running }

// start gives free slots to those whose turn it is, and room to callers that hope for some.
func (s *Scheduler) start(now int64) []*Ticket {
	clear(s.moved)
	s.moved = s.moved[:0]
	for s.sync.running+s.async.running < s.slots {
		t := s.pick()
		if t == nil {
			break
		}
		f := t.flow
		p := f.pool
		t.state, t.began, t.charged = running, now, f.usual
		p.virtual = max(p.virtual, f.virtual)
		f.virtual += t.charged / f.weight
		f.held--
		p.held--
		p.waiting--
		f.running++
		p.running++
		p.settle(f)
		s.moved = append(s.moved, t)
	}
	for t := s.sync.let(); t != nil; t = s.sync.let() {
		s.moved = append(s.moved, t)
	}
	return s.moved
}

// let gives room to the ticket whose turn it is; nil: there is none.
func (p *pool) let() *Ticket {
	var first *flow
	for _, f := range p.hopers {
		if (first == nil || f.virtual < first.virtual) && p.roomFor(f) > 0 {
			first = f
		}
	}
	if first == nil {
		return nil
	}
	t := first.hopers.pop()
	t.state = expected
	p.hoping--
	first.held++
	p.held++
	p.hopers = without(p.hopers, first, first.hopers.empty())
	return t
}

// pick takes the ticket out of its queue that starts next; nil: none may. Callers who wait go first where both pools have a
// claim, since what is async can wait; but on a single slot, in turns. A pool that could not use a slot of its own does not
// keep the other from it.
func (s *Scheduler) pick() *Ticket {
	sync := s.sync.turn(s.async.turn(true) != nil)
	async := s.async.turn(s.sync.turn(true) != nil)
	if sync != nil && async != nil && s.slots == 1 {
		if s.asyncNext = !s.asyncNext; !s.asyncNext {
			sync = nil
		}
	}
	switch {
	case sync != nil:
		return sync.take()
	case async != nil:
		return async.take()
	}
	return nil
}

// turn is the flow whose turn it is. contended says that the other pool wants the slots that are not this one's own. Apps
// that run leave the reserve of the pool to others, and that of the node: each pool one half of it.
func (p *pool) turn(contended bool) (first *flow) {
	s := p.of
	most, busy := p.most, p.most-p.kept()
	if contended {
		most, busy = min(most, p.own), p.own-s.sync.kept()/2
	}
	if p.waiting == 0 || p.running >= most {
		return nil
	}
	reserved := p.running >= busy || s.sync.running+s.async.running >= s.slots-s.sync.kept()
	for _, f := range p.awaiting {
		if (!reserved || f.running == 0) && (first == nil || f.virtual < first.virtual) {
			first = f
		}
	}
	return first
}

// kept is how many slots are for apps that use none.
func (p *pool) kept() int {
	if p.of.Alone {
		return 0
	}
	return p.reserve
}

// take is the next ticket of an app: of its retries, one for some fresh ones.
func (f *flow) take() *Ticket {
	if !f.retries.empty() && (f.fresh.empty() || f.sinceTry >= freshFirst) {
		f.sinceTry = 0
		return f.retries.pop()
	}
	f.sinceTry = min(f.sinceTry+1, freshFirst)
	return f.fresh.pop()
}

func (f *flow) queue(c Class) *list {
	if c == Retry {
		return &f.retries
	}
	return &f.fresh
}

func (p *pool) flow(app uuid.UUID) *flow {
	f := p.flows[app]
	if f == nil {
		f = &flow{pool: p, app: app, weight: 1, usual: unknown.Seconds()}
		p.flows[app] = f
	}
	return f
}

// settle takes a flow out of those that wait, if it does no longer.
func (p *pool) settle(f *flow) {
	p.awaiting = without(p.awaiting, f, f.fresh.empty() && f.retries.empty())
}

// without is list without f, if that is so, in any order.
func without(list []*flow, f *flow, gone bool) []*flow {
	if !gone {
		return list
	}
	if i := slices.Index(list, f); i >= 0 {
		last := len(list) - 1
		list[i], list[last] = list[last], nil
		list = list[:last]
	}
	return list
}

// maxFlows bounds the apps that are remembered while they are idle.
const maxFlows = 4096

// tidy forgets idle apps once there are many: what one used to take is only a guess.
func (p *pool) tidy(f *flow) {
	if len(p.flows) > maxFlows && f.running == 0 && f.held == 0 && f.hopers.empty() {
		delete(p.flows, f.app)
	}
}

// list is a queue of tickets.
type list struct{ first, last *Ticket }

func (l *list) empty() bool { return l.first == nil }

func (l *list) push(t *Ticket) {
	if l.last == nil {
		l.first = t
	} else {
		l.last.next = t
	}
	l.last = t
}

func (l *list) pop() *Ticket {
	t := l.first
	l.first, t.next = t.next, nil
	if l.first == nil {
		l.last = nil
	}
	return t
}

func (l *list) remove(t *Ticket) {
	var before *Ticket
	for at := l.first; at != nil; before, at = at, at.next {
		if at != t {
			continue
		}
		if before == nil {
			l.first = t.next
		} else {
			before.next = t.next
		}
		if l.last == t {
			l.last = before
		}
		t.next = nil
		return
	}
}
