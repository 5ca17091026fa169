package pluginhost

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"syscall"

	"github.com/picloud/picloud/sdk/plugin"
)

// Fate says in words how a process that was launched has ended: "it exited with status 2: fatal error: stack overflow". It
// waits for the end, which follows Done within moments.
func (p *Process) Fate() string {
	<-p.child.reaped
	how := "it exited with status 0"
	var status *exec.ExitError
	switch err := p.Err(); {
	case errors.Is(err, ErrStuck):
		return "it was killed since a run did not end in time"
	case errors.Is(err, plugin.ErrProtocol):
		return "it was killed since it broke the protocol"
	case errors.As(p.child.status, &status):
		how = fmt.Sprintf("it exited with status %d", status.ExitCode())
		if wait := status.Sys().(syscall.WaitStatus); wait.Signaled() {
			how = fmt.Sprintf("it was ended by signal %d (%s)", wait.Signal(), wait.Signal())
			if wait.Signal() == syscall.SIGKILL {
				how += ", which is also what the system sends when memory runs out"
			}
		}
	}
	if fatal := p.child.stderr.fatalLine(); fatal != "" {
		how += ": " + fatal
	}
	return how
}

// fatals begin the lines in which the Go runtime says why it ends a process. What follows them are stacks.
var fatals = [][]byte{[]byte("fatal error: "), []byte("panic: "), []byte("runtime: out of memory"), []byte("unexpected fault address")}

func isFatal(line []byte) bool {
	for _, f := range fatals {
		if bytes.HasPrefix(line, f) {
			return true
		}
	}
	return false
}

// fatalLine is the first line with which the runtime ended the process; empty if it did not.
func (c *capture) fatalLine() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fatal
}
