package dispatcher

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
)

// However events come: in no span of time do more of a lane start than the burst and what the time has brought, and no
// more run at one time than may; and while there is room, somebody who wants to start can.
func TestLimitsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		now := int64(time.Hour)
		l := newLimits(func() int64 { return now })
		rate := tenant.Rate{
			Limit: rapid.IntRange(1, 50).Draw(rt, "limit"), Burst: rapid.IntRange(0, 20).Draw(rt, "burst"),
			Per: retry.Duration(time.Duration(rapid.IntRange(1, 5000).Draw(rt, "per")) * time.Millisecond),
		}
		most := rapid.IntRange(1, 8).Draw(rt, "concurrency")
		script := &tenant.Script{ID: uuid.New()}
		lane := &tenant.Lane{ID: uuid.New(), Script: script, Policy: tenant.Policy{Concurrency: most, Rate: &rate}}
		burst := rate.Burst
		if burst == 0 {
			burst = rate.Limit
		}
		var starts []int64
		running := 0
		for range 200 {
			now += int64(rapid.IntRange(0, 400).Draw(rt, "ms")) * int64(time.Millisecond)
			want := rapid.IntRange(0, 12).Draw(rt, "want")
			room, wait := l.room(lane)
			got := l.reserve(lane, want)
			if got > want || got != min(want, room) {
				rt.Fatalf("%d of %d wanted, with room for %d", got, want, room)
			}
			if back := min(got, rapid.IntRange(0, 3).Draw(rt, "unused")); back > 0 {
				l.giveBack(lane, back)
				got -= back
			}
			for range got {
				starts = append(starts, now)
			}
			running += got
			if running > most {
				rt.Fatalf("%d run, of at most %d", running, most)
			}
			if room == 0 && running < most && wait <= 0 {
				rt.Fatal("nothing holds the lane, and yet it has no room")
			}
			for range min(running, rapid.IntRange(0, 5).Draw(rt, "ended")) {
				l.end(lane.ID, script.ID)
				running--
			}
		}
		perNano := float64(rate.Limit) / float64(rate.Per)
		for i := range starts {
			for j := i; j < len(starts); j++ {
				if allowed := float64(burst) + float64(starts[j]-starts[i])*perNano; float64(j-i+1) > allowed+1e-6 {
					rt.Fatalf("%d starts in %s, allowed are %.2f", j-i+1, time.Duration(starts[j]-starts[i]), allowed)
				}
			}
		}
	})
}

// Entries of a key that is over its rate are given times, each of which it keeps to, and which together keep to the rate.
func TestKeyRateModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		now := int64(time.Hour)
		l := newLimits(func() int64 { return now })
		limit, burst := rapid.IntRange(1, 20).Draw(rt, "limit"), rapid.IntRange(1, 5).Draw(rt, "burst")
		lane := &tenant.Lane{ID: uuid.New(), Script: &tenant.Script{}, Policy: tenant.Policy{
			Rate: &tenant.Rate{Limit: limit, Burst: burst}, RateKey: "k",
		}}
		var starts []int64
		for range rapid.IntRange(1, 60).Draw(rt, "entries") {
			now += int64(rapid.IntRange(0, 100).Draw(rt, "ms")) * int64(time.Millisecond)
			id, asked := uuid.New(), now
			wait := l.takeKey(lane, "k", id)
			if wait > 0 {
				now += int64(wait)
				if again := l.takeKey(lane, "k", id); again != 0 {
					rt.Fatalf("told to wait %s, and then %s more", wait, again)
				}
				now = asked // others come meanwhile
			}
			starts = append(starts, asked+int64(wait))
		}
		for i := range starts {
			n := 0
			for _, s := range starts {
				if s >= starts[i] && s < starts[i]+int64(time.Second) {
					n++
				}
			}
			if n > limit+burst {
				rt.Fatalf("%d starts within a second, of %d and a burst of %d", n, limit, burst)
			}
		}
	})
}
