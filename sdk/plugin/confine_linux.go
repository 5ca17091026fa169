package plugin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// putOn puts one layer on the process.
func putOn(layer string, reach Reach) error {
	switch layer {
	case LayerThreads:
		return unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: maxThreads, Max: maxThreads})
	case LayerLimits:
		return limit(reach)
	case LayerLandlock:
		return restrict(reach)
	case LayerFilter:
		return filterStart(reach)
	}
	if !seccomp.Supported() {
		return errors.New("the kernel has no seccomp filters")
	}
	return nil
}

// Limits of a plugin's process that hold where the plugin's own do not. Memory is that of data and stacks: an engine ends a
// run long before.
const (
	maxMemory      = 1 << 30
	maxFiles       = 128
	maxConnections = 1024 // in place of maxFiles, where each of them may be one
	maxThreads     = 64   // an engine has about ten
)

// limit sets what the process may take, and keeps others of its user from looking into it.
func limit(reach Reach) error {
	files := uint64(maxFiles)
	if reach == Network {
		files = maxConnections
	}
	for resource, most := range map[int]uint64{
		unix.RLIMIT_DATA: maxMemory, unix.RLIMIT_NOFILE: files, unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: 0,
	} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("limit resource %d: %w", resource, err)
		}
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// lookedUp are the files that the network needs: how names are looked up, and who signs for a server.
var lookedUp = []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/ssl/cert.pem"}

// trusted are the folders of certificates, of all systems.
var trusted = []string{
	"/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust", "/etc/ca-certificates", "/usr/share/ca-certificates",
	"/usr/local/share/ca-certificates", "/usr/share/pki", "/usr/share/zoneinfo",
}

// readable are the rules for those files. Where /etc/resolv.conf is a link, all of the folder is readable that it leads to: the
// file there is replaced whenever the network changes.
func readable() []landlock.Rule {
	folders := trusted
	if at, err := filepath.EvalSymlinks("/etc/resolv.conf"); err == nil && filepath.Dir(at) != "/etc" {
		folders = append(folders[:len(folders):len(folders)], filepath.Dir(at))
	}
	return []landlock.Rule{landlock.ROFiles(lookedUp...).IgnoreIfMissing(), landlock.RODirs(folders...).IgnoreIfMissing()}
}

// restrict leaves the process the folder of its socket, and those that it signals or talks to by abstract sockets: itself. TCP
// is left to the filter and the network namespace, since Landlock knows neither MPTCP nor UDP.
func restrict(reach Reach) error {
	// With cgo, all threads are reached by their ids in /proc, which are not those in a namespace of its own.
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0); errno == unix.ENOTSUP {
		if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
			return errors.New("the program is built with cgo and has a pid namespace: build it with CGO_ENABLED=0")
		}
	}
	folder := os.Getenv(goplugin.EnvUnixSocketDir)
	if folder == "" {
		folder = os.TempDir() // as go-plugin does
	}
	rules := []landlock.Rule{landlock.RWDirs(folder)}
	if reach == Network {
		rules = append(rules, readable()...)
	}
	all := landlock.V6
	all.HandledAccessNet = 0
	if has, err := ll.LandlockGetABIVersion(); err != nil || has < scopedABI {
		_ = all.BestEffort().Restrict(rules...) // what there is is better than nothing, but not the layer
		return fmt.Errorf("the kernel has version %d of Landlock, and %d is needed", max(has, 0), scopedABI)
	}
	return all.Restrict(rules...)
}

// scopedABI is the first version of Landlock that knows signals and abstract sockets.
const scopedABI = 6

// startForbidden is what no plugin needs of the kernel: other processes, and what widens what a process may do.
var startForbidden = []string{
	// Other processes, and what is shared with them.
	"execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp",
	"kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "setpgid", "setsid",
	"shmget", "shmat", "shmctl", "msgget", "msgsnd", "msgrcv", "msgctl", "semget", "semop", "semctl", "semtimedop", "mq_open",
	"socketpair",
	// What a process may do.
	"mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "mount_setattr",
	"unshare", "setns", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
	"keyctl", "add_key", "request_key", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
	"swapon", "swapoff", "sethostname", "setdomainname", "acct", "syslog", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime",
	"iopl", "ioperm", "modify_ldt", "personality", "vhangup", "lookup_dcookie", "setuid", "setgid", "setreuid", "setregid",
	"setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "capset", "nfsservctl", "uselib", "ustat",
	"open_by_handle_at", "name_to_handle_at", "memfd_create", "memfd_secret", "mknod", "mknodat", "quotactl", "quotactl_fd",
	"fanotify_init",
}

// changesForbidden is what no session needs: changes of files. Everything that the process has open stays.
var changesForbidden = []string{
	"creat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
	"unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "truncate",
	"utime", "utimes", "utimensat", "futimesat", "inotify_init", "inotify_init1", "chdir", "fchdir",
}

// sessionForbidden is what no script needs besides: files and sockets by name.
var sessionForbidden = []string{
	"open", "openat", "openat2", "readlink", "readlinkat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2",
	"socket", "bind", "listen",
}

// sockets are those that a process may make at its start: that of the plugin, and the Internet's where it reaches them.
func sockets(reach Reach) seccomp.NameWithConditions {
	families := []uint64{unix.AF_UNIX}
	if reach == Network {
		families = append(families, internet...)
	}
	return onlySockets(families)
}

// internet are the families of sockets of the Internet, and that by which a process asks which addresses its machine has.
var internet = []uint64{unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}

// otherNetlink matches the making of a socket to all that the kernel has behind that family, but for routes and addresses.
var otherNetlink = seccomp.NameWithConditions{Name: "socket", Conditions: []seccomp.Condition{
	{Argument: 0, Operation: seccomp.Equal, Value: unix.AF_NETLINK}, {Argument: 2, Operation: seccomp.NotEqual, Value: unix.NETLINK_ROUTE},
}}

// onlySockets matches the making of a socket that is of none of the families.
func onlySockets(families []uint64) seccomp.NameWithConditions {
	c := seccomp.NameWithConditions{Name: "socket"}
	for _, f := range families {
		c.Conditions = append(c.Conditions, seccomp.Condition{Argument: 0, Operation: seccomp.NotEqual, Value: f})
	}
	return c
}

func filterStart(reach Reach) error {
	forbidden := startForbidden
	if reach == Nothing {
		forbidden = append(forbidden[:len(forbidden):len(forbidden)], "connect")
	}
	return filter(forbidden,
		// Its flags are in memory, where no filter sees them. Whoever is told that there is none takes clone.
		seccomp.SyscallGroup{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
		// Threads are made and signalled by the runtime; processes are not. The one socket is that of the plugin.
		seccomp.SyscallGroup{Action: seccomp.ActionErrno, NamesWithCondtions: []seccomp.NameWithConditions{
			{Name: "clone", Conditions: []seccomp.Condition{{Argument: 0, Operation: seccomp.BitsNotSet, Value: unix.CLONE_THREAD}}},
			{Name: "tgkill", Conditions: []seccomp.Condition{{Argument: 0, Operation: seccomp.NotEqual, Value: uint64(os.Getpid())}}},
			sockets(reach),
		}},
		// The limit of memory is not looked at where a reserved range is made usable, as Go does: a single allocation may have any
		// size. The next one is refused then, but that is too late for the machine.
		seccomp.SyscallGroup{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOMEM), NamesWithCondtions: []seccomp.NameWithConditions{
			{Name: "mmap", Conditions: []seccomp.Condition{{Argument: 1, Operation: seccomp.GreaterThan, Value: maxMemory / 2}}},
			{Name: "mremap", Conditions: []seccomp.Condition{{Argument: 2, Operation: seccomp.GreaterThan, Value: maxMemory / 2}}},
		}})
}

// filterSession takes away from the process, for good, what only its start needed. It is called when the session is open and
// before an engine's first Load: a script's initialisers run there.
func filterSession(reach Reach) error {
	if reach == Nothing {
		return filter(append(changesForbidden[:len(changesForbidden):len(changesForbidden)], sessionForbidden...))
	}
	return filter(changesForbidden, seccomp.SyscallGroup{
		Action: seccomp.ActionErrno, NamesWithCondtions: []seccomp.NameWithConditions{onlySockets(internet), otherNetlink},
	})
}

// filter refuses system calls to all threads of the process: those that have one of the names, and those of the groups.
func filter(forbidden []string, groups ...seccomp.SyscallGroup) error {
	info, err := arch.GetInfo("")
	if err != nil {
		return fmt.Errorf("confine the process: %w", err)
	}
	var names []string
	for _, name := range forbidden {
		if _, known := info.SyscallNames[name]; known { // some are of other machines
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return errors.New("confine the process: no system call has a name here")
	}
	err = seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls:      append([]seccomp.SyscallGroup{{Action: seccomp.ActionErrno, Names: names}}, groups...),
	}})
	if err != nil {
		return fmt.Errorf("confine the process: %w", err)
	}
	return nil
}
