package engine_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/coretest"
	"github.com/picloud/picloud/core/engine"
)

// percentiles reports the middle and the end of what was measured, in ms.
func percentiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(p int) float64 { return took[(len(took)-1)*p/100].Seconds() * 1000 }
	b.ReportMetric(at(50), "ms-p50")
	b.ReportMetric(at(99), "ms-p99")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkCold is the first answer of an app that has no process, with a spare and without.
func BenchmarkCold(b *testing.B) {
	for name, spares := range map[string]int{"spare": 1, "launch": 0} {
		b.Run(name, func(b *testing.B) {
			m := setup(b, func(c *engine.Config) { c.Spares = spares })
			var took []time.Duration
			for b.Loop() {
				s := script(uuid.New(), "a")
				m.keep(s) // the app before goes
				coretest.Eventually(b, "there are spares", func() bool {
					n := m.Stats()
					return n.Spares["puppet"] == spares && n.Processes["puppet"] == spares
				})
				began := time.Now()
				if _, err := m.invoke(b.Context(), s, false, "echo hello"); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			percentiles(b, took)
		})
	}
}

// BenchmarkBesideComputing is a small call beside runs of the same app that compute without end, with one process for both
// and with as many as there may be.
func BenchmarkBesideComputing(b *testing.B) {
	for _, c := range []struct {
		name            string
		spinning, share int
	}{{"none", 0, 1}, {"one in one process", 1, 1}, {"one", 1, 2}, {"three in one process", 3, 1}} {
		b.Run(c.name, func(b *testing.B) {
			m := setup(b, func(cfg *engine.Config) { cfg.Spares = 1; engine.Share(cfg, c.share) })
			s := script(uuid.New(), "a")
			m.keep(s)
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan struct{})
			for range c.spinning {
				begun := make(chan struct{})
				go func() { _ = m.invokeBegun(ctx, s, "spin", begun); ended <- struct{}{} }()
				<-begun
			}
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				if _, err := m.invoke(b.Context(), s, false, "echo hello"); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			percentiles(b, took)
			cancel()
			for range c.spinning {
				<-ended
			}
		})
	}
}
