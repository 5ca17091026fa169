//go:build !linux

package pluginhost

import (
	"os"
	"os/exec"
	"syscall"
)

// What a plugin process is started with, where there is neither a parent-death signal nor isolation: a plugin whose host
// is killed exits when its session ends.

func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func prepareThread() {}

func prepareProcess(int) {}

func programPath(f *os.File) string { return f.Name() }

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
