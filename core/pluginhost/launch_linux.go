package pluginhost

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// nice is how much plugins yield to the host: a busy script must not delay heartbeats.
const nice = 5

// oomScore makes the kernel end a plugin before the host when memory runs out.
const oomScore = "500"

// command prepares the start of the process. The calling thread must be locked, and be of no other use afterwards.
func (c *child) command() (*exec.Cmd, error) {
	s := steps{c.has, c.dir, c.home}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	path, dir := s.program(c.program)
	cmd := exec.Command(path)
	cmd.Dir = dir
	cmd.SysProcAttr = s.attributes()
	return cmd, nil
}

// settle sets what can only be set from outside.
func settle(pid int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(oomScore), 0) // to be the first to go is never forbidden
}

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
