//go:build !linux

package pluginhost

import (
	"os"
	"os/exec"
	"syscall"
)

// processAttributes are what every plugin process is started with. There is no parent-death signal here: a plugin whose
// host is killed ends when its session does.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func lockThread() {}

func programPath(f *os.File) string { return f.Name() }

func killGroup(cmd *exec.Cmd) {
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may be gone
	}
}

func lowerPriority(int) {}
