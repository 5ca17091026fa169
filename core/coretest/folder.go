package coretest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// enoughMemory is what must be free in a file system in memory for the test server to live there.
const enoughMemory = 2 << 30

// DataDir returns a folder for the data of an instance, removed after the test. Unlike t.TempDir it lets the account
// of an embedded server through.
func DataDir(t testing.TB) string {
	t.Helper()
	dir, err := makeDataDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The server of a process that was killed may still write while it notices.
		Eventually(t, "the data folder can be removed", func() bool { return dir.remove() == nil })
	})
	return dir.path
}

// dataDir is a folder that is ours for as long as it is open: the lock on it tells other test processes so, whether or not a
// server runs in it at the moment.
type dataDir struct {
	path string
	open *os.File
}

// remove may be called again when it has failed.
func (d dataDir) remove() error {
	if err := os.RemoveAll(d.path); err != nil {
		return err
	}
	return d.open.Close()
}

// makeDataDir makes a folder: in memory where there is plenty, since a copy of the template takes 10 ms there and 120 to
// 250 ms on a disk. It also removes what test processes that were killed have left.
func makeDataDir() (_ dataDir, err error) {
	parent := os.TempDir()
	if inMemory := "/dev/shm"; hasRoom(inMemory) {
		parent = inMemory
	}
	const pattern = "picloud-test-*"
	left, _ := filepath.Glob(filepath.Join(parent, pattern))
	for _, dir := range left {
		if isAbandoned(dir) {
			_ = os.RemoveAll(dir) // somebody else's, perhaps
		}
	}
	var d dataDir
	if d.path, err = os.MkdirTemp(parent, pattern); err != nil {
		return dataDir{}, err
	}
	if d.open, err = os.Open(d.path); err != nil {
		return dataDir{}, err
	}
	return d, errors.Join(unix.Flock(int(d.open.Fd()), unix.LOCK_EX), os.Chmod(d.path, 0o711))
}

func hasRoom(dir string) bool {
	var free unix.Statfs_t
	return unix.Statfs(dir, &free) == nil && free.Bavail*uint64(free.Bsize) >= enoughMemory &&
		unix.Access(dir, unix.W_OK) == nil
}

// isAbandoned reports whether nobody has a folder any more. One that was made just now may not be locked yet.
func isAbandoned(dir string) bool {
	file, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	return err == nil && time.Since(info.ModTime()) > time.Minute && unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}
