package coretest

import (
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
		var err error
		for range 50 {
			if err = os.RemoveAll(dir); err == nil {
				return
			}
			<-time.After(100 * time.Millisecond)
		}
		t.Errorf("remove data folder: %v", err)
	})
	return dir
}

// makeDataDir makes a folder: in memory where there is plenty, since a copy of the template takes 10 ms there and 120 to
// 250 ms on a disk. It also removes what test processes that were killed have left.
func makeDataDir() (string, error) {
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
	dir, err := os.MkdirTemp(parent, pattern)
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

func hasRoom(dir string) bool {
	var free unix.Statfs_t
	return unix.Statfs(dir, &free) == nil && free.Bavail*uint64(free.Bsize) >= enoughMemory &&
		unix.Access(dir, unix.W_OK) == nil
}

// isAbandoned reports whether nobody owns the server in a folder any more. One that was made just now may have no owner
// yet.
func isAbandoned(dir string) bool {
	file, err := os.OpenFile(filepath.Join(dir, "postgres", "owner.lock"), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	return err == nil && time.Since(info.ModTime()) > time.Minute &&
		unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}
