//go:build !linux

package embedded

import (
	"net"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// serves reports whether the process that the file names is alive and something answers on its socket: a number alone
// may have been given to another process, or be a zombie's.
func (f pidFile) serves(string) bool {
	if unix.Kill(f.pid, 0) != nil {
		return false
	}
	conn, err := net.Dial("unix", filepath.Join(f.socket, socketName))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
