package dispatcher

import (
	"math"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/tenant"
)

// limits count what runs in each lane of this node and how fast it starts. A lane's limits belong to all nodes together,
// each of which keeps to an equal share: exact on one node, off by at most one a node on several. Safe for concurrent use.
type limits struct {
	clock func() int64 // nanoseconds, as uptime

	mu      sync.Mutex
	nodes   int
	running map[uuid.UUID]int     // runs by lane and by script
	buckets map[uuid.UUID]*bucket // of lanes with a rate
	keys    map[rateKey]*keyBucket
}

// rateKey is one key of a lane whose rate is by key.
type rateKey struct {
	lane uuid.UUID
	key  string
}

// keyBucket is the bucket of one key, and the time up to which starts are promised to entries that were sent away.
type keyBucket struct {
	bucket
	promised int64
}

// unlimited is the room of a lane without limits.
const unlimited = math.MaxInt

// maxBuckets bounds the keys whose buckets are remembered; full ones are forgotten first.
const maxBuckets = 10_000

func newLimits(clock func() int64) *limits {
	return &limits{
		clock: clock, nodes: 1, running: map[uuid.UUID]int{}, buckets: map[uuid.UUID]*bucket{}, keys: map[rateKey]*keyBucket{},
	}
}

func (l *limits) setNodes(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = max(1, n)
}

// room says how many runs of a lane may start now, and where a rate leaves none, how long until the next may.
func (l *limits) room(lane *tenant.Lane) (int, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.roomLocked(lane)
}

// open reports whether a run of a lane may start now.
func (l *limits) open(lane *tenant.Lane) bool {
	n, _ := l.room(lane)
	return n > 0
}

func (l *limits) roomLocked(lane *tenant.Lane) (int, time.Duration) {
	n, wait := unlimited, time.Duration(0)
	for _, of := range owners(lane) {
		if most := of.policy.Concurrency; most > 0 {
			n = min(n, max(0, share(most, l.nodes)-l.running[of.id]))
		}
		if b := l.bucketOf(of.id, of.policy); b != nil {
			tokens, next := b.tokens(l.clock())
			n, wait = min(n, tokens), max(wait, next)
		}
	}
	return n, wait
}

// reserve takes up to want starts of a lane and returns how many it got.
func (l *limits) reserve(lane *tenant.Lane, want int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	room, _ := l.roomLocked(lane)
	n := min(room, want)
	l.add(lane, n)
	return n
}

// giveBack returns starts that were reserved and did not happen.
func (l *limits) giveBack(lane *tenant.Lane, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(lane, -n)
}

func (l *limits) add(lane *tenant.Lane, n int) {
	if n == 0 {
		return
	}
	for _, of := range owners(lane) {
		l.count(of.id, n)
		if b := l.bucketOf(of.id, of.policy); b != nil {
			b.take(l.clock(), n)
		}
	}
}

// end says that a run of a lane, which reserve let in, is over.
func (l *limits) end(lane, script uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(lane, -1)
	if script != lane {
		l.count(script, -1)
	}
}

func (l *limits) count(id uuid.UUID, n int) {
	if l.running[id] += n; l.running[id] <= 0 {
		delete(l.running, id)
	}
}

// keySlack is by how much an entry that comes back may miss its time: for so long no newcomer takes its start, and the next
// one, who comes in time, is not sent away.
const keySlack = 50 * time.Millisecond

// takeKey takes a start of one key of a lane. Where there is none it returns how long until the time at which the entry is
// to come back, in whole milliseconds. Those who come back take their start before newcomers, who queue behind them.
func (l *limits) takeKey(lane *tenant.Lane, key string, back bool) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lane.Policy.Rate == nil {
		return 0
	}
	now := l.clock()
	k := rateKey{lane.ID, key}
	b := l.keys[k]
	if b == nil {
		if len(l.keys) >= maxBuckets {
			l.forget(now)
		}
		b = &keyBucket{bucket: bucket{at: now, level: math.Inf(1)}}
		l.keys[k] = b
	}
	b.shape(lane.Policy.Rate, l.nodes)
	b.fill(now)
	needed := 1.0
	if back {
		needed = max(0.5, 1-float64(keySlack)*b.perNano)
	}
	if b.level >= needed && (back || b.promised+int64(keySlack) < now) {
		b.take(now, 1)
		return 0
	}
	next := now + max(int64(time.Millisecond), int64(math.Ceil((1-b.level)/b.perNano)))
	b.promised = min(max(b.promised+int64(1/b.perNano), next), now+int64(tenant.MaxDelay))
	return (time.Duration(b.promised-now) + time.Millisecond - 1).Truncate(time.Millisecond)
}

// forget drops keys that would be as good as new.
func (l *limits) forget(now int64) {
	for k, b := range l.keys {
		if b.fill(now); b.level >= b.burst && b.promised+int64(keySlack) < now {
			delete(l.keys, k)
		}
	}
}

// runs says how many runs of a lane this node has, and how many it may have; zero: any number.
func (l *limits) runs(lane *tenant.Lane) (running, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lane.Policy.Concurrency > 0 {
		most = share(lane.Policy.Concurrency, l.nodes)
	}
	return l.running[lane.ID], most
}

// limited is one whose policy limits a run: its lane, and where that is not the target itself, the target.
type limited struct {
	id     uuid.UUID
	policy *tenant.Policy
}

func owners(lane *tenant.Lane) []limited {
	id, own := lane.Target()
	if lane.ID == id {
		return []limited{{lane.ID, &lane.Policy}}
	}
	return []limited{{lane.ID, &lane.Policy}, {id, own}}
}

func (l *limits) bucketOf(id uuid.UUID, p *tenant.Policy) *bucket {
	if p.Rate == nil || p.RateKey != "" {
		delete(l.buckets, id)
		return nil
	}
	b := l.buckets[id]
	if b == nil {
		b = &bucket{at: l.clock(), level: math.Inf(1)}
		l.buckets[id] = b
	}
	b.shape(p.Rate, l.nodes)
	return b
}

// share is a node's part of a limit.
func share(most, nodes int) int { return (most + nodes - 1) / nodes }

// bucket is a token bucket (Turner, "New directions in communications", 1986). Not safe for concurrent use.
type bucket struct {
	at      int64 // nanoseconds of the last look
	level   float64
	burst   float64
	perNano float64
}

// shape gives the bucket its size and speed, which may change.
func (b *bucket) shape(r *tenant.Rate, nodes int) {
	per, burst := time.Duration(r.Per), r.Burst
	if per == 0 {
		per = time.Second
	}
	if burst == 0 {
		burst = r.Limit
	}
	b.perNano = float64(r.Limit) / float64(per) / float64(nodes)
	b.burst = float64(share(burst, nodes))
	b.level = min(b.level, b.burst)
}

func (b *bucket) fill(now int64) {
	b.level = min(b.burst, b.level+float64(now-b.at)*b.perNano)
	b.at = now
}

// tokens says how many starts there are now, and how long until there is one.
func (b *bucket) tokens(now int64) (int, time.Duration) {
	b.fill(now)
	if b.level >= 1 {
		return int(b.level), 0
	}
	return 0, time.Duration(math.Ceil((1 - b.level) / b.perNano))
}

func (b *bucket) take(now int64, n int) {
	b.fill(now)
	b.level = min(b.burst, b.level-float64(n))
}
