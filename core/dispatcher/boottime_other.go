//go:build !linux

package dispatcher

import "time"

var started = time.Now()

// bootTime is a monotonic clock in nanoseconds. Off Linux it may stand still while the machine sleeps; then a woken
// node learns only from its next heartbeat that it has lost its epoch.
func bootTime() int64 { return int64(time.Since(started)) }
