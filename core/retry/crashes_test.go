package retry_test

import (
	"testing"
	"time"

	"github.com/picloud/picloud/core/retry"
)

// The first death costs nothing, then each doubles the wait up to half a minute, and who lived for a minute is forgiven.
func TestCrashes(t *testing.T) {
	t.Parallel()
	var c retry.Crashes
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for n, want := range []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
		c.Started(now)
		c.Died(now)
		if got := c.Wait(now); got != want || c.Row() != n+1 {
			t.Errorf("death %d of %d: %v, not %v", n+1, c.Row(), got, want)
		}
	}
	if got := c.Wait(now.Add(time.Second)); got != 0 {
		t.Errorf("after a second: %v", got)
	}
	for range 100 {
		c.Started(now)
		c.Died(now)
	}
	if got := c.Wait(now); got != 30*time.Second {
		t.Errorf("after many: %v", got)
	}
	c.Started(now)
	c.Died(now.Add(time.Minute))
	if c.Row() == 1 {
		t.Error("forgiven after a minute sharp")
	}
	c.Started(now)
	c.Died(now.Add(time.Minute + 1))
	if got := c.Wait(now.Add(time.Minute + 1)); got != 0 || c.Row() != 1 {
		t.Errorf("after a life: %v, %d in a row", got, c.Row())
	}
}
