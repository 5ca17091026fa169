package dispatcher

import "golang.org/x/sys/unix"

// bootTime is a monotonic clock in nanoseconds that goes on while the machine sleeps.
func bootTime() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("the kernel has no boot-time clock: " + err.Error()) // Linux has had one since 2.6.39
	}
	return ts.Nano()
}
