//go:build !linux

package pluginhost

import (
	"os"
	"os/exec"
	"syscall"
)

// command prepares the start of the process. There is neither a parent-death signal nor isolation: a plugin whose host is
// killed exits when its session ends.
func (c *child) command() (*exec.Cmd, error) {
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return nil, err
	}
	cmd := exec.Command(c.program.Name())
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, nil
}

func settle(int) {}

// awaitEnd does nothing: reap waits.
func awaitEnd(int) {}

func reap(cmd *exec.Cmd) error {
	err := cmd.Wait()
	killGroup(cmd.Process.Pid)
	return err
}

func killGroup(pid int) {
	_ = syscall.Kill(-pid, syscall.SIGKILL) // it may be gone
}
