package schedule

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// sim drives a scheduler through virtual time: runs take as long as their app says.
type sim struct {
	t     rapid.TB
	s     *Scheduler
	now   int64
	runs  []*Ticket // by their end
	apps  map[uuid.UUID]*simApp
	ended int

	checks int
}

type simApp struct {
	id     uuid.UUID
	weight int
	run    func() time.Duration
	used   time.Duration // engine time
	waits  []time.Duration
	came   map[*Ticket]int64
	ends   map[*Ticket]int64
	active int // runs
	order  []Class
}

func newSim(t rapid.TB, slots int) *sim {
	return &sim{t: t, s: New(slots, 100), apps: map[uuid.UUID]*simApp{}}
}

func (w *sim) app(weight int, run func() time.Duration) *simApp {
	a := &simApp{id: uuid.New(), weight: weight, run: run, came: map[*Ticket]int64{}, ends: map[*Ticket]int64{}}
	w.apps[a.id] = a
	return a
}

func always(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// come has a ticket of the app arrive; nil: there is no room.
func (w *sim) come(a *simApp, c Class) *Ticket {
	t := &Ticket{App: a.id, Weight: a.weight, Class: c}
	a.came[t] = w.now
	if c == Sync {
		if !w.s.Ask(t) {
			return nil
		}
		if t.Hopes() {
			return t
		}
	} else if w.s.Expect(a.id, 1) == 0 {
		return nil
	}
	w.begin(w.s.Enter(t, w.now))
	return t
}

func (w *sim) begin(moved []*Ticket) {
	moved = slices.Clone(moved)
	for len(moved) > 0 {
		t := moved[0]
		moved = moved[1:]
		if !t.Started() { // it has room, and is written at once
			moved = append(moved, w.s.Enter(t, w.now)...)
			continue
		}
		a := w.apps[t.App]
		a.waits = append(a.waits, time.Duration(w.now-a.came[t]))
		a.order = append(a.order, t.Class)
		a.active++
		a.ends[t] = w.now + int64(a.run())
		at, _ := slices.BinarySearchFunc(w.runs, a.ends[t], func(r *Ticket, end int64) int { return cmp.Compare(w.apps[r.App].ends[r], end) })
		w.runs = slices.Insert(w.runs, at, t)
	}
	w.check()
}

// step lets time pass until the next run ends, at most to the given time. False: that came first.
func (w *sim) step(until int64) bool {
	if len(w.runs) == 0 || w.apps[w.runs[0].App].ends[w.runs[0]] > until {
		w.now = until
		return false
	}
	t := w.runs[0]
	w.runs = w.runs[1:]
	a := w.apps[t.App]
	w.now = a.ends[t]
	a.used += time.Duration(w.now - t.began)
	a.active--
	w.ended++
	w.begin(w.s.Leave(t, w.now))
	return true
}

// check compares what the scheduler counts with what runs, and looks for slots that are idle without a reason.
func (w *sim) check() {
	s := w.s
	if s.sync.running+s.async.running != len(w.runs) || len(w.runs) > s.slots || s.async.running > max(1, s.slots*3/4) {
		w.t.Fatalf("%d sync and %d async runs of %d slots, %d in fact", s.sync.running, s.async.running, s.slots, len(w.runs))
	}
	if w.checks++; w.checks%8 != 0 && w.ended > 1000 {
		return
	}
	for _, p := range []*pool{&s.sync, &s.async} {
		running, held, waits, free := 0, 0, 0, false
		for _, f := range p.flows {
			running += f.running
			held += f.held
			if !f.fresh.empty() || !f.retries.empty() {
				waits++
				free = free || f.running == 0
			}
			if f.running < 0 || f.held < 0 {
				w.t.Fatalf("an app has %d runs and holds %d", f.running, f.held)
			}
		}
		if running != p.running || held != p.held || waits != len(p.awaiting) || p.waiting > p.held || p.waiting < 0 {
			w.t.Fatalf("counted %+v, but %d run and %d are held", p, running, held)
		}
		if p.held > p.rooms+p.most {
			w.t.Fatalf("%d are held", p.held)
		}
		// Work conservation: beyond the reserves nothing idles while somebody waits.
		most, all := p.most, s.slots
		if !free {
			most, all = most-p.kept(), all-s.sync.kept()
		}
		if p.waiting > 0 && p.running < most && len(w.runs) < all {
			w.t.Fatalf("%d wait while %d of %d run", p.waiting, p.running, most)
		}
	}
}

// keep has each app always have something waiting, for a time.
func (w *sim) keep(d time.Duration, class func() Class, apps ...*simApp) {
	end := w.now + int64(d)
	for {
		for more := true; more; {
			more = false
			for _, a := range apps {
				if f := w.s.pool(Fresh).flow(a.id); f.held < 4 && w.come(a, class()) != nil {
					more = true
				}
			}
		}
		if !w.step(end) {
			return
		}
	}
}

func fresh() Class { return Fresh }

// jain is Jain's index of fairness: one where all have the same.
func jain(shares []float64) float64 {
	sum, squares := 0.0, 0.0
	for _, x := range shares {
		sum += x
		squares += x * x
	}
	return sum * sum / (float64(len(shares)) * squares)
}

func TestApps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newSim(rt, rapid.IntRange(4, 64).Draw(rt, "slots"))
		var apps []*simApp
		for range rapid.IntRange(2, 8).Draw(rt, "apps") {
			apps = append(apps, w.app(1, always(time.Duration(rapid.IntRange(10, 200).Draw(rt, "ms"))*time.Millisecond)))
		}
		w.keep(10*time.Second, fresh, apps...)
		var used []float64
		for _, a := range apps {
			used = append(used, a.used.Seconds())
		}
		if j := jain(used); j < 0.9 {
			rt.Errorf("Jain's index is %.3f of %v", j, used)
		}
	})
}

func TestWeights(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newSim(rt, rapid.IntRange(32, 128).Draw(rt, "slots")) // of fewer, one for each who uses none is more than its share
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		var apps []*simApp
		for _, weight := range []int{1, 2, 4} {
			mean := rapid.IntRange(10, 50).Draw(rt, "ms")
			apps = append(apps, w.app(weight, func() time.Duration {
				return time.Duration(random.IntN(2*mean*1000)+1) * time.Microsecond
			}))
		}
		w.keep(time.Second, fresh, apps...) // until the usual times are known
		total := 0.0
		for _, a := range apps {
			a.used = 0
		}
		w.keep(20*time.Second, fresh, apps...)
		for _, a := range apps {
			total += a.used.Seconds()
		}
		for _, a := range apps {
			share, due := a.used.Seconds()/total, float64(a.weight)/7
			if math.Abs(share-due) > 0.1*due {
				rt.Errorf("weight %d has %.3f of the time, not %.3f", a.weight, share, due)
			}
		}
	})
}

// Whatever comes, nothing is counted wrongly, nothing idles, and nobody waits for ever.
func TestArrivals(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		slots := rapid.IntRange(1, 32).Draw(rt, "slots")
		w := newSim(rt, slots)
		longest := 0
		var apps []*simApp
		for range rapid.IntRange(1, 6).Draw(rt, "apps") {
			ms := rapid.IntRange(1, 300).Draw(rt, "ms")
			longest = max(longest, ms)
			apps = append(apps, w.app(rapid.IntRange(1, 4).Draw(rt, "weight"), always(time.Duration(ms)*time.Millisecond)))
		}
		var here []*Ticket
		for range rapid.IntRange(1, 200).Draw(rt, "steps") {
			a := apps[rapid.IntRange(0, len(apps)-1).Draw(rt, "app")]
			class := Class(rapid.IntRange(0, 2).Draw(rt, "class"))
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0:
				n := w.s.Expect(a.id, rapid.IntRange(0, 50).Draw(rt, "n"))
				w.check()
				w.s.Forgo(a.id, n)
				w.check()
			case 1: // somebody gives up
				here = slices.DeleteFunc(here, func(t *Ticket) bool { return t.Started() || t.state == outside })
				if len(here) > 0 {
					t := here[rapid.IntRange(0, len(here)-1).Draw(rt, "who")]
					w.begin(w.s.Leave(t, w.now))
				}
			case 2, 3:
				w.step(w.now + int64(rapid.IntRange(1, 100).Draw(rt, "pass"))*int64(time.Millisecond))
			default:
				if t := w.come(a, class); t != nil {
					here = append(here, t)
				}
			}
		}
		for w.step(w.now + int64(time.Hour)) {
		}
		if w.s.sync.held+w.s.async.held+w.s.sync.hoping != 0 {
			rt.Errorf("%d and %d never started", w.s.sync.held, w.s.async.held)
		}
	})
}

// An app whose runs take half a minute has every slot that it may have. Another one starts at once, every time.
func TestQuietBesideSlow(t *testing.T) {
	t.Parallel()
	w := newSim(t, 64)
	slow, quiet := w.app(1, always(30*time.Second)), w.app(1, always(5*time.Millisecond))
	for range 300 {
		end := w.now + int64(time.Second)
		for w.come(slow, Fresh) != nil {
		}
		for w.step(end) {
			for w.come(slow, Fresh) != nil {
			}
		}
		if w.come(quiet, Fresh) == nil {
			t.Fatal("there is no room for the quiet app")
		}
	}
	for _, wait := range quiet.waits {
		if wait != 0 {
			t.Fatalf("the quiet app waited for %s", wait)
		}
	}
	if slow.active < 40 {
		t.Errorf("the slow app has %d slots", slow.active)
	}
	if f := w.s.async.flow(slow.id); f.held > 1 {
		t.Errorf("%d slow entries wait in memory", f.held)
	}
}

// An app that has used nothing so far, such as when a node starts, takes in all that waits for it at one time. Another one starts at once.
func TestQuietBesideBacklog(t *testing.T) {
	t.Parallel()
	for _, slots := range []int{8, 32, 64} {
		s := New(slots, 10)
		slow, quiet := uuid.New(), uuid.New()
		for range s.Claim(slow, 1000) {
			s.Enter(&Ticket{App: slow, Class: Fresh}, 0)
		}
		if s.Free(slow) != 0 || s.Free(quiet) == 0 {
			t.Errorf("of %d slots %d are free for the app that has all, and %d for the other", slots, s.Free(slow), s.Free(quiet))
		}
		if s.Room() == 0 || !s.Claimable(quiet) || s.Expect(quiet, 1) == 0 {
			t.Errorf("of %d slots and the places before them none is left", slots)
			continue
		}
		x := &Ticket{App: quiet, Class: Fresh}
		if s.Enter(x, 0); !x.Started() {
			t.Errorf("of %d slots none is left", slots)
		}
		if s.Free(quiet) != 0 {
			t.Errorf("of %d slots more than one is free for an app", slots)
		}
	}
}

// No app waits for longer than the others' turns and one run.
func TestWaitIsBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		slots := rapid.IntRange(8, 64).Draw(rt, "slots")
		w := newSim(rt, slots)
		var noisy []*simApp
		run := time.Duration(rapid.IntRange(1, 50).Draw(rt, "ms")) * time.Millisecond
		for range rapid.IntRange(1, 10).Draw(rt, "apps") {
			noisy = append(noisy, w.app(1, always(run)))
		}
		quiet := w.app(1, always(run))
		w.keep(time.Second, fresh, noisy...)
		for range 20 {
			w.come(quiet, Fresh)
			w.keep(200*time.Millisecond, fresh, noisy...)
		}
		turn := time.Duration(float64(len(noisy)+1) * float64(run) / float64(slots*3/4-w.s.async.reserve))
		for _, wait := range quiet.waits {
			if wait > turn+run {
				rt.Errorf("it waited for %s beside %d apps of %s on %d slots", wait, len(noisy), run, slots)
			}
		}
		if len(quiet.waits) != 20 {
			rt.Errorf("%d of 20 started", len(quiet.waits))
		}
	})
}

// While fresh work waits, at most a fifth of what starts are retries; without it they have everything.
func TestRetries(t *testing.T) {
	t.Parallel()
	w := newSim(t, 8)
	a := w.app(1, always(time.Millisecond))
	turn := 0
	w.keep(time.Second, func() Class { turn++; return Class(1 + turn%2) }, a)
	retries := 0
	for _, c := range a.order[100:] {
		if c == Retry {
			retries++
		}
	}
	if share := float64(retries) / float64(len(a.order)-100); share > 0.5 {
		t.Errorf("%.2f are retries", share)
	}
	s := New(1, 0)
	var order []Class
	s.async.flow(a.id).held += 21 // however many wait
	s.async.held += 21
	running := &Ticket{App: a.id, Class: Fresh}
	s.Enter(running, 0)
	for range 10 {
		s.Enter(&Ticket{App: a.id, Class: Retry}, 0)
		s.Enter(&Ticket{App: a.id, Class: Fresh}, 0)
	}
	for range 20 {
		running = s.Leave(running, 1)[0]
		order = append(order, running.Class)
	}
	first := 0
	for _, c := range order[:12] {
		if c == Retry {
			first++
		}
	}
	if first > 3 {
		t.Errorf("%d retries among the first twelve: %v", first, order)
	}
	if order[19] != Retry {
		t.Errorf("the last is %v", order)
	}
}

// Callers who wait have half of the slots for themselves, and the async runs of others theirs.
func TestPools(t *testing.T) {
	t.Parallel()
	w := newSim(t, 64)
	var apps []*simApp
	for range 4 {
		apps = append(apps, w.app(1, always(10*time.Millisecond)))
	}
	flood := func(c Class) {
		for more := true; more; {
			more = false
			for _, a := range apps {
				more = w.come(a, c) != nil || more
			}
		}
	}
	flood(Fresh)
	if w.s.async.running < 42 || w.s.async.running > 48 {
		t.Errorf("without others, %d async runs", w.s.async.running)
	}
	for range 2000 {
		flood(Fresh)
		flood(Sync)
		w.step(w.now + int64(time.Second))
	}
	if sync, async := w.s.sync.running, w.s.async.running; sync < 26 || async < 26 || sync+async < 58 {
		t.Errorf("together, %d sync and %d async runs", sync, async)
	}
	for range 2000 {
		flood(Sync)
		w.step(w.now + int64(time.Second))
	}
	if w.s.sync.running < 57 {
		t.Errorf("without others, %d sync runs", w.s.sync.running)
	}
	w.s.Alone = true
	flood(Sync)
	w.step(w.now + int64(time.Second))
	if w.s.sync.running != 64 {
		t.Errorf("alone, %d sync runs", w.s.sync.running)
	}
}

// A ticket that had a slot and did not run teaches nothing.
func TestVoid(t *testing.T) {
	t.Parallel()
	s := New(8, 0)
	app := uuid.New()
	for _, void := range []bool{true, false} {
		before := s.async.flow(app).usual
		run := &Ticket{App: app, Class: Fresh, Void: void}
		s.Expect(app, 1)
		s.Enter(run, 0)
		s.Leave(run, 1)
		if after := s.async.flow(app).usual; (after == before) != void {
			t.Errorf("void %v: a run usually takes %v s, before %v s", void, after, before)
		}
	}
}

// On a single slot both have their turns.
func TestSingleSlot(t *testing.T) {
	t.Parallel()
	w := newSim(t, 1)
	a := w.app(1, always(time.Millisecond))
	for range 50 {
		w.come(a, Sync)
		w.come(a, Fresh)
		w.step(w.now + int64(time.Second))
	}
	async := 0
	for _, c := range a.order {
		if c == Fresh {
			async++
		}
	}
	if async < 20 || async > 30 {
		t.Errorf("%d of %d runs are async", async, len(a.order))
	}
}

func BenchmarkStart(b *testing.B) {
	for name, apps := range map[string]int{"one app": 1, "100 apps": 100} {
		b.Run(name, func(b *testing.B) {
			s := New(64, 0)
			tickets := make([]Ticket, 64)
			ids := make([]uuid.UUID, apps)
			for i := range ids {
				ids[i] = uuid.New()
			}
			var live []*Ticket
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if len(live) == len(tickets)/2 {
					s.Leave(live[0], int64(i)*1000)
					live = live[1:]
				}
				t := &Ticket{App: ids[i%apps], Class: Fresh}
				s.Expect(t.App, 1)
				s.Enter(t, int64(i)*1000)
				live = append(live, t)
			}
		})
	}
}
