package pluginhost_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/pluginhost"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
)

// BenchmarkEcho is the price of the process boundary: 1 KB to an engine process and back. cpu-us/op is that of both
// processes.
func BenchmarkEcho(b *testing.B) {
	env, err := (&event.Envelope{ID: "e", Source: "http", Type: "http.request", Time: time.Now(), HTTP: &event.HTTP{
		Method: "POST", Host: "localhost:8080", Path: "/hello/ada", RemoteAddr: "127.0.0.1:50000",
		Headers: []event.Header{
			{Name: "Accept", Value: "*/*"}, {Name: "Content-Length", Value: "1024"}, {Name: "User-Agent", Value: "curl/8.5.0"},
		},
		Params: []event.Param{{Name: "name", Value: "ada"}},
	}}).Marshal()
	if err != nil {
		b.Fatal(err)
	}
	body := []byte("echo " + strings.Repeat("x", 1024))
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			p := launch(b, newHost(b, hclog.NewNullLogger()), "engine/puppet")
			b.ReportAllocs()
			before := cpu(b, p.Pid())
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					ctx := b.Context()
					for left.Add(-1) >= 0 {
						err := p.Engine().Invoke(ctx, &engine.Request{
							Bundle: "b", ExecutionID: "x", Attempt: 1, Envelope: env, Body: body,
						}, discard{})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.StopTimer()
			b.ReportMetric(float64((cpu(b, p.Pid())-before).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}

// BenchmarkStart is what it takes from a launch to an open session with no layer of isolation, with each alone, and with all.
func BenchmarkStart(b *testing.B) {
	for _, name := range slices.Concat([]string{"none"}, pluginhost.Layers(), []string{"all"}) {
		b.Run(name, func(b *testing.B) {
			on := []string{name}
			if name == "all" {
				on = nil
			}
			h := newHost(b, hclog.NewNullLogger(), on...)
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				p := launch(b, h, "engine/puppet")
				took = append(took, time.Since(began))
				p.Kill()
				<-p.Done()
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "median-ms")
		})
	}
}

type discard struct{}

func (discard) Head(engine.Head) error      { return nil }
func (discard) Write(p []byte) (int, error) { return len(p), nil }

// cpu is what this process and its child have used.
func cpu(b *testing.B, child int) time.Duration {
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		b.Fatal(err)
	}
	total := time.Duration(self.Utime.Nano() + self.Stime.Nano())
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	for _, field := range strings.Fields(rest)[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		total += time.Duration(n) * 10 * time.Millisecond
	}
	return total
}
