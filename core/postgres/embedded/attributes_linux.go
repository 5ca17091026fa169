package embedded

import "syscall"

// attributes start a child in a process group of its own, so that a Ctrl-C reaches only us, and as the account. It gets
// SIGINT, which for Postgres is a fast and clean shutdown, when the thread that started it ends.
func (a account) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: a.credential(), Pdeathsig: syscall.SIGINT}
}
