package pluginhost

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// nice is how much engines yield to the host: a busy script must not delay heartbeats.
const nice = 5

// oomScore makes the kernel end an engine before the host when memory runs out.
const oomScore = "500"

// processAttributes are what every plugin process is started with. Layers of isolation belong here.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, // no plugin outlives the host
		Setpgid:   true,            // Ctrl-C reaches only us; Kill reaches all that a plugin started
	}
}

// lockThread ties the goroutine to its thread, which ends with it.
func lockThread() { runtime.LockOSThread() }

// programPath names an open file, so that what is executed is what was opened.
func programPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func killGroup(cmd *exec.Cmd) {
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may be gone
	}
}

// lowerPriority makes the process yield to the host, in CPU and in memory. Where it is not permitted, it is not done.
func lowerPriority(pid int) {
	_ = syscall.Setpriority(syscall.PRIO_PGRP, pid, nice)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(oomScore), 0)
}
