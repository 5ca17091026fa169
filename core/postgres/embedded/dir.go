package embedded

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// DefaultDir returns the data folder for work in a folder: .picloud in it if a server could live there, else a folder of
// the system's (root) or of the user's own state, named after the working folder. It makes nothing.
func DefaultDir(working string) (string, error) {
	working, err := filepath.Abs(working)
	if err != nil {
		return "", fmt.Errorf("working folder: %w", err)
	}
	here := filepath.Join(working, ".picloud")
	if livable(here) {
		return here, nil
	}
	state, err := stateDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(working))
	return filepath.Join(state, hex.EncodeToString(sum[:8])), nil
}

// livable reports whether we can write to dir, or make it, and the server's account can reach it.
func livable(dir string) bool {
	a, err := accountFor(filepath.Join(dir, "postgres", "data"))
	if err != nil || a.blocked(filepath.Dir(dir)) != "" {
		return false
	}
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return unix.Access(filepath.Dir(dir), unix.W_OK) == nil
	}
	self := os.Geteuid()
	return err == nil && info.IsDir() && (self == 0 || int(info.Sys().(*syscall.Stat_t).Uid) == self)
}

func stateDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/picloud", nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "picloud"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("state folder: %w", err)
	}
	return filepath.Join(home, ".local", "share", "picloud"), nil
}

// socketPathMax is what every system takes as the path of a Unix socket, its final zero included: macOS 104, Linux 108.
const socketPathMax = 104

// socketName is the file that Postgres makes in the socket folder for port 5432, which all our servers have.
const socketName = ".s.PGSQL.5432"

// socketDir is inside base, unless that is too long for a socket: then a runtime folder named after it.
func socketDir(base string, a account) string {
	fits := func(dir string) bool { return len(filepath.Join(dir, socketName)) < socketPathMax }
	if dir := filepath.Join(base, "socket"); fits(dir) {
		return dir
	}
	sum := sha256.Sum256([]byte(base))
	name := "picloud-" + hex.EncodeToString(sum[:8])
	for _, runtime := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/run"} {
		dir := filepath.Join(runtime, name)
		if filepath.IsAbs(dir) && fits(dir) && unix.Access(runtime, unix.W_OK) == nil && a.blocked(runtime) == "" {
			return dir
		}
	}
	return filepath.Join("/tmp", name)
}

// makeDir makes a folder and those above it that are missing, each with exactly this mode whatever the umask is.
func makeDir(path string, mode fs.FileMode) error {
	err := os.Mkdir(path, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(filepath.Dir(path), mode); err != nil {
			return err
		}
		err = os.Mkdir(path, mode)
	}
	switch {
	case err == nil:
		return os.Chmod(path, mode)
	case errors.Is(err, fs.ErrExist):
		return nil
	}
	return err
}

// makePrivateDir makes a folder that the account alone can enter, or takes the one that is there. In a folder that
// everybody may write to, such as /tmp, another user may have made it first: that is an error.
func makePrivateDir(path string, a account) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if !info.IsDir() || (owner != int(a.uid) && owner != os.Geteuid()) {
		return fmt.Errorf("%s belongs to somebody else", path)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return err
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}
