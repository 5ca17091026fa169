package embedded

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ownerLock is held by the one process that may start and stop the server. The kernel gives it up with the process.
type ownerLock struct{ file *os.File }

func openOwnerLock(path string) (*ownerLock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open owner file: %w", err)
	}
	return &ownerLock{file}, nil
}

// try takes the lock if it is free, and reports whether it is held.
func (l *ownerLock) try() (bool, error) {
	for {
		switch err := unix.Flock(int(l.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, unix.EINTR):
			return false, fmt.Errorf("lock owner file: %w", err)
		}
	}
}

func (l *ownerLock) close() error { return l.file.Close() }
