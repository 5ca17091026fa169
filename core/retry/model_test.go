package retry

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// duration draws small and large values, and the ends of the range.
func duration(low time.Duration) *rapid.Generator[Duration] {
	return rapid.Custom(func(t *rapid.T) Duration {
		return Duration(rapid.OneOf(
			rapid.Int64Range(int64(low), int64(time.Minute)),
			rapid.Int64Range(int64(low), int64(longest)),
			rapid.SampledFrom([]int64{int64(low), int64(time.Hour), int64(longest) - 1, int64(longest)}),
		).Draw(t, "duration"))
	})
}

func policies() *rapid.Generator[Policy] {
	return rapid.Custom(func(t *rapid.T) Policy {
		p := Policy{
			Kind:   rapid.SampledFrom([]Kind{"", Exponential, Linear, Constant, Table}).Draw(t, "kind"),
			Base:   duration(0).Draw(t, "base"),
			Factor: rapid.SampledFrom([]float64{0, 1, 1.0000001, 1.5, 2, 10, math.MaxFloat64}).Draw(t, "factor"),
			Cap:    duration(0).Draw(t, "cap"),
		}
		if p.Kind == Table {
			p.Delays = rapid.SliceOfN(duration(0), 1, 9).Draw(t, "delays")
		}
		return p
	})
}

// Whatever a policy that was accepted says, and however often it is asked: no wait is negative or above the cap, none
// is shorter than one before it, and the jitter stays within its ceiling. random gives the ends of its range too.
func TestEveryPolicyStaysInBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := policies().Draw(t, "policy")
		if err := p.Validate(); err != nil {
			t.Fatalf("refused: %v", err)
		}
		limit := time.Duration(p.Cap)
		if limit == 0 && p.Kind != Table {
			limit = time.Duration(Default.Cap)
		}
		draw := rapid.SampledFrom([]func(int64) int64{
			rand.Int64N,
			func(int64) int64 { return 0 },
			func(n int64) int64 { return n - 1 },
		}).Draw(t, "random")
		var before time.Duration
		for _, n := range []int{0, 1, 2, 3, 7, 25, math.MaxInt16} {
			ceiling := p.Ceiling(n)
			if ceiling < 0 || limit > 0 && ceiling > limit {
				t.Fatalf("attempt %d: the ceiling is %s, the cap is %s", n, ceiling, limit)
			}
			if p.Kind != Table && ceiling < before {
				t.Fatalf("attempt %d: the ceiling is %s, it was %s before", n, ceiling, before)
			}
			before = ceiling
			if d := p.Delay(n, draw); d < 0 || d > ceiling {
				t.Fatalf("attempt %d waits %s, the ceiling is %s", n, d, ceiling)
			}
		}
	})
}

// A table is taken as given, without jitter and without the cap that nobody asked for: the times of a webhook table
// reach a day.
func TestTableIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := Policy{Kind: Table, Delays: rapid.SliceOfN(duration(0), 1, 9).Draw(t, "delays")}
		if rapid.Bool().Draw(t, "capped") {
			p.Cap = duration(1).Draw(t, "cap")
		}
		for n := 1; n < 12; n++ {
			want := p.Delays[min(n, len(p.Delays))-1]
			if p.Cap > 0 {
				want = min(want, p.Cap)
			}
			if got := p.Delay(n, rand.Int64N); got != time.Duration(want) {
				t.Fatalf("attempt %d waits %s, the table says %s", n, got, time.Duration(want))
			}
		}
	})
}

// 10,000 entries that failed at one moment come back spread evenly: no hundredth of the time has more than half as many
// again as the mean.
func TestFullJitterSpreads(t *testing.T) {
	t.Parallel()
	const entries, buckets = 10_000, 100
	for attempt := 1; attempt <= 12; attempt++ {
		random := rand.New(rand.NewPCG(uint64(attempt), 1))
		ceiling := Default.Ceiling(attempt)
		var counts [buckets]int
		for range entries {
			counts[int64(Default.Delay(attempt, random.Int64N))*buckets/(int64(ceiling)+1)]++
		}
		peak := 0
		for _, n := range counts {
			peak = max(peak, n)
		}
		if ratio := float64(peak) * buckets / entries; ratio > 1.5 {
			t.Errorf("attempt %d: peak to mean is %.2f", attempt, ratio)
		}
	}
}

// A wait that cannot be stored or added to a time is refused where it is written down.
func TestEndlessWaitsAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"base":"2562047h47m16.854775807s"}`,
		`{"kind":"constant","base":"2562047h47m16.854775807s","cap":"2562047h47m16.854775807s"}`,
		`{"cap":"8785h"}`,
		`{"kind":"table","delays":["1s","8785h"]}`,
	} {
		var p Policy
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			t.Fatal(err)
		}
		if p.Validate() == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}
