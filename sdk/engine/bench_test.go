package engine_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
)

// BenchmarkEcho is one run with 1 KB in and out, as a caller of Client.Invoke sees it, host and engine in one process.
func BenchmarkEcho(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			c := enginetest.Dial(b, enginetest.Puppet{})
			r := enginetest.Request(b, "b", "echo "+strings.Repeat("x", 1024))
			b.ReportAllocs()
			b.ResetTimer()
			var done atomic.Int64
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					for done.Add(1) <= int64(b.N) {
						var out counter
						if err := c.Invoke(b.Context(), r, &out); err != nil || out != 1024 {
							b.Error(out, err)
							return
						}
					}
				})
			}
			all.Wait()
		})
	}
}

// counter is a Reply that counts bytes.
type counter int

func (*counter) Head(engine.Head) error { return nil }

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
