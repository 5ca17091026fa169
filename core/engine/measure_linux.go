package engine

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the CPU time that a process has used: its clock, as clock_getcpuclockid(3) names it. Where it cannot be read
// nothing is known.
func cpuTime(pid int) (time.Duration, bool) {
	const sched = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &t); err != nil {
		return 0, false
	}
	return time.Duration(t.Nano()), true
}

// ownMemory is how many bytes of memory are the process' own, not those of the program that it shares with others, and which
// part it has taken of the addresses that it may write to: it gives memory back, but never those, and at its limit it ends.
func ownMemory(pid int) (own int64, mapped float64, known bool) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, 0, false
	}
	own, err = kilobytes(status, "RssAnon")
	if err != nil {
		return 0, 0, false
	}
	data, err := kilobytes(status, "VmData")
	var limit unix.Rlimit
	if err == nil && unix.Prlimit(pid, unix.RLIMIT_DATA, nil, &limit) == nil {
		mapped = float64(data) / float64(limit.Cur)
	}
	return own, mapped, true
}

// kilobytes reads a line of a status file of proc(5), as bytes.
func kilobytes(status []byte, name string) (int64, error) {
	_, rest, _ := bytes.Cut(status, []byte("\n"+name+":"))
	line, _, _ := bytes.Cut(rest, []byte(" kB\n"))
	kb, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64)
	return kb << 10, err
}
