package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// account is who the server runs as.
type account struct {
	name     string
	uid, gid uint32
}

// AccountError says that no account can run the server, or that the one that must cannot reach the data.
type AccountError struct{ Reason string }

func (e *AccountError) Error() string {
	return e.Reason + ", or give PICLOUD_DATABASE_URL to use another server"
}

// credential is nil when a child runs as we do.
func (a account) credential() *syscall.Credential {
	if int(a.uid) == os.Geteuid() {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// accountFor finds who runs the server of a data directory: the one that the files belong to, if there are any; for
// root, whom Postgres refuses, the account of the system's Postgres or else nobody; anybody else themselves.
func accountFor(data string) (account, error) {
	self := os.Geteuid()
	info, err := os.Stat(data)
	switch {
	case err == nil:
		owner := int(info.Sys().(*syscall.Stat_t).Uid)
		if self != 0 && owner != self {
			return account{}, &AccountError{fmt.Sprintf("%s belongs to another user (id %d): run as that one, choose another folder with --data", data, owner)}
		}
		return lookUp(owner)
	case !errors.Is(err, fs.ErrNotExist):
		return account{}, fmt.Errorf("look at database: %w", err)
	case self != 0:
		return lookUp(self)
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return accountOf(u)
		}
	}
	return account{}, &AccountError{"Postgres does not run as root, and there is neither an account postgres nor nobody: run as an ordinary user"}
}

// lookUp finds the account with a uid. Postgres' tools fail for a uid without a name.
func lookUp(uid int) (account, error) {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return account{}, &AccountError{fmt.Sprintf("Postgres needs a user with a name, and user %d has none: add one to the passwd file", uid)}
	}
	return accountOf(u)
}

func accountOf(u *user.User) (account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("user id of %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("group id of %s: %w", u.Username, err)
	}
	return account{name: u.Username, uid: uint32(uid), gid: uint32(gid)}, nil
}

// blocked returns the first folder on the way to path, itself included, that the account cannot enter, or "". What does
// not exist yet blocks nobody.
func (a account) blocked(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if up := filepath.Dir(path); up != path {
		if folder := a.blocked(up); folder != "" {
			return folder
		}
	}
	if a.credential() == nil {
		if unix.Access(path, unix.X_OK) == unix.EACCES {
			return path
		}
		return ""
	}
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	stat, enter := info.Sys().(*syscall.Stat_t), fs.FileMode(0o001)
	switch {
	case stat.Uid == a.uid:
		enter = 0o100
	case stat.Gid == a.gid:
		enter = 0o010
	}
	if info.Mode()&enter == 0 {
		return path
	}
	return ""
}
