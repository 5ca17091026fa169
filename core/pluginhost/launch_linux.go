package pluginhost

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// What a plugin process is started with. Layers of isolation belong here.

// nice is how much plugins yield to the host: a busy script must not delay heartbeats.
const nice = 5

// oomScore makes the kernel end a plugin before the host when memory runs out.
const oomScore = "500"

func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, // no plugin outlives the host
		Setpgid:   true,            // Ctrl-C reaches only us; kill reaches all that a plugin started
	}
}

// prepareThread sets what a process has from the thread that starts it. Threads of the child have it from the child, so
// that none of them is forgotten.
func prepareThread() {
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, nice) // to yield is never forbidden
}

// prepareProcess sets the rest. Where it is not permitted, it is not done.
func prepareProcess(pid int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(oomScore), 0)
}

// programPath names an open file, so that what is executed is what was opened.
func programPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// awaitEnd returns when the process has ended. Until it is reaped its id stays taken, as a group's too.
func awaitEnd(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// reap ends what a process that has ended leaves behind, and frees its id.
func reap(cmd *exec.Cmd) error {
	killGroup(cmd.Process.Pid)
	return cmd.Wait()
}

func killGroup(pid int) {
	_ = unix.Kill(-pid, unix.SIGKILL) // it may be gone
}
