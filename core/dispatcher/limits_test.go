package dispatcher

import (
	"cmp"
	"slices"
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

// However entries of a key come, and however late they come back: in no span of time do more start than the burst and what
// the time has brought, but for half of one; nobody is sent away for ever, and nobody who keeps to its time twice.
func TestKeyRateModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		now := int64(time.Hour)
		l := newLimits(func() int64 { return now })
		limit, burst := rapid.IntRange(1, 200).Draw(rt, "limit"), rapid.IntRange(1, 5).Draw(rt, "burst")
		lane := &tenant.Lane{ID: uuid.New(), Script: &tenant.Script{}, Policy: tenant.Policy{
			Rate: &tenant.Rate{Limit: limit, Burst: burst}, RateKey: "k",
		}}
		punctual := rapid.Bool().Draw(rt, "punctual")
		type comer struct {
			at   int64
			back bool
		}
		comers := make([]comer, rapid.IntRange(1, 60).Draw(rt, "entries"))
		at := now
		for i := range comers {
			at += int64(rapid.IntRange(0, 100).Draw(rt, "ms")) * int64(time.Millisecond)
			comers[i].at = at
		}
		var starts []int64
		for asked := 0; len(comers) > 0; asked++ {
			if asked > 5000 {
				rt.Fatalf("%d are still waiting", len(comers))
			}
			slices.SortStableFunc(comers, func(a, b comer) int { return cmp.Compare(a.at, b.at) })
			c := comers[0]
			comers = comers[1:]
			now = c.at
			switch wait := l.takeKey(lane, "k", c.back); {
			case wait <= 0:
				starts = append(starts, now)
			case c.back && punctual:
				rt.Fatalf("came back at its time, and was sent away for %s more", wait)
			default:
				late := 0
				if !punctual {
					late = rapid.IntRange(0, 2000).Draw(rt, "late")
				}
				comers = append(comers, comer{now + int64(wait) + int64(late)*int64(time.Millisecond), true})
			}
		}
		for i := range starts {
			for j := i; j < len(starts); j++ {
				allowed := float64(burst) + float64(limit)*time.Duration(starts[j]-starts[i]).Seconds() + 0.5
				if float64(j-i+1) > allowed+1e-6 {
					rt.Fatalf("%d starts in %s, of %d a second and a burst of %d", j-i+1, time.Duration(starts[j]-starts[i]), limit, burst)
				}
			}
		}
		if took := time.Duration(starts[len(starts)-1] - int64(time.Hour)); punctual &&
			took > time.Duration(at-int64(time.Hour))+time.Duration(len(starts)+1)*time.Second/time.Duration(limit)+100*time.Millisecond {
			rt.Fatalf("%d starts took %s", len(starts), took)
		}
	})
}
