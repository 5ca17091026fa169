//go:build !linux

package embedded

import "syscall"

// attributes start a child in a process group of its own, so that a Ctrl-C reaches only us, and as the account. Without
// a parent-death signal the server outlives a killed owner; the next owner ends it before starting its own.
func (a account) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: a.credential()}
}
