package engine

import "time"

// How busy a process is, is looked at when a run arrives and the last look is older than pulseEvery: at most fifty times a
// second, and always shortly before a run begins.
const pulseEvery = 20 * time.Millisecond

// pulse is the CPU time of a process as it was last looked at.
//
// An engine process has one processor. While a run computes, the engine serves others in time slices of 10 ms, several of
// which each needs to get in and out: beside one computing run a small one took 45 ms instead of 0.04, beside three 140. In a
// process of its own it took 0.05. Half a processor is what a computing run has at the least on a machine whose others are
// busy too.
type pulse struct {
	at   time.Time
	used time.Duration
	high bool
}

// busy reports whether the runs in the process have taken more than half a processor since the last look.
func (u *pulse) busy(pid, running int, now time.Time) bool {
	if since := now.Sub(u.at); since >= pulseEvery {
		used, known := cpuTime(pid)
		u.high = known && !u.at.IsZero() && used-u.used > since/2
		u.at, u.used = now, used
	}
	return u.high && running > 0
}
