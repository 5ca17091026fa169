package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/engine"
	"github.com/picloud/picloud/core/pluginhost"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/fault"
)

// Calls of six apps while versions change, processes are killed, replaced and ended at random. Each call has the answer of
// its own script, or is told that its process was lost; at the end nothing is left.
func TestStress(t *testing.T) {
	t.Parallel()
	const apps, scripts, callers, calls = 6, 3, 8, 2000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	b := setup(t, func(c *engine.Config) { c.Spares, c.Idle, c.Runs, c.Age = 1, time.Minute, 30, time.Hour })

	var mu sync.Mutex // of what is active
	var active [apps][scripts]*tenant.Script
	for a := range active {
		app := uuid.New()
		for i := range active[a] {
			active[a][i] = script(app, fmt.Sprintf("app%d-script%d-v1", a, i))
		}
	}
	publish := func() {
		var all []*tenant.Script
		for a := range active {
			all = append(all, active[a][:]...)
		}
		b.keep(all...)
	}
	publish()

	var left, lost, refused, answered atomic.Int64
	left.Store(calls)
	trouble, ended := make(chan struct{}), make(chan struct{})
	var all, hurting sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(c)))
			for left.Add(-1) >= 0 {
				if random.IntN(12) == 0 {
					trouble <- struct{}{}
				}
				mu.Lock()
				s := *active[random.IntN(apps)][random.IntN(scripts)]
				mu.Unlock()
				text := fmt.Sprint(s.Hash, " ", random.Uint64())
				got, err := b.invoke(t.Context(), &s, random.IntN(50) == 0, "name "+text)
				f := fault.From(err)
				switch {
				case err == nil && got == s.Hash+" "+text:
					answered.Add(1)
				case err == nil:
					t.Errorf("%q instead of %q", got, text)
				case f.Kind == fault.EngineLost:
					lost.Add(1)
				case f.Kind == fault.Unavailable && strings.Contains(f.Message, "died"): // and will not be started at once
					refused.Add(1)
					left.Add(1)
					<-time.After(f.RetryAfter)
				case f.Kind == fault.Unavailable && strings.Contains(f.Message, "before the run"):
					refused.Add(1)
				default:
					t.Errorf("%s: %+v", s.Hash, f)
				}
			}
		})
	}
	hurting.Go(func() {
		random := rand.New(rand.NewPCG(seed, callers))
		for n := 2; ; n++ {
			select {
			case <-trouble:
			case <-ended:
				return
			}
			switch random.IntN(4) {
			case 0:
				mu.Lock()
				a, i := random.IntN(apps), random.IntN(scripts)
				next := *active[a][i]
				next.Hash = fmt.Sprintf("app%d-script%d-v%d", a, i, n)
				active[a][i] = &next
				publish()
				mu.Unlock()
			case 1:
				alive := slices.DeleteFunc(b.launched(), func(p *pluginhost.Process) bool {
					select {
					case <-p.Done():
						return true
					default:
						return false
					}
				})
				if len(alive) > 0 { // one that ends of itself right now keeps its id until it is reaped
					_ = syscall.Kill(alive[random.IntN(len(alive))].Pid(), syscall.SIGKILL)
				}
			case 2:
				b.pass(time.Duration(random.Int64N(int64(2 * time.Minute))))
			case 3:
				b.pass(time.Duration(random.Int64N(int64(10 * time.Second))))
			}
		}
	})
	all.Wait()
	close(ended)
	hurting.Wait()
	t.Logf("%d answered, %d lost, %d refused; %+v", answered.Load(), lost.Load(), refused.Load(), b.Stats())
	if answered.Load() < calls/2 {
		t.Error("most calls failed")
	}
	b.Close()
	for _, p := range b.launched() {
		<-p.Done()
		coretest.Eventually(t, "the process is gone", func() bool { return errors.Is(syscall.Kill(p.Pid(), 0), syscall.ESRCH) })
	}
	coretest.Eventually(t, "none is counted", func() bool { return b.Stats().Processes["puppet"] == 0 })
}
