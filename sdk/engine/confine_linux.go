package engine

import (
	"errors"
	"fmt"
	"os"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// Limits of an engine process that hold where the engine's own do not. Memory is that of data and stacks: an engine ends a
// run long before.
const (
	maxMemory = 1 << 30
	maxFiles  = 128
)

// limit sets what the process may take. A process that may not even lower its limits does not start.
func limit() error {
	for resource, most := range map[int]uint64{
		unix.RLIMIT_DATA: maxMemory, unix.RLIMIT_NOFILE: maxFiles, unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: 0,
	} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("limit resource %d: %w", resource, err)
		}
	}
	return nil
}

// forbidden is what no script needs of the kernel once the session is open: files and sockets by name, other processes, and what
// widens what a process may do. Everything that the process has open stays.
var forbidden = []string{
	// Files.
	"open", "openat", "openat2", "creat", "open_by_handle_at", "name_to_handle_at", "memfd_create", "memfd_secret",
	"rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir",
	"mknod", "mknodat", "chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "truncate", "readlink", "readlinkat",
	"stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "utime", "utimes", "utimensat", "futimesat",
	"inotify_init", "inotify_init1", "fanotify_init", "quotactl", "quotactl_fd", "chdir", "fchdir",
	// Sockets.
	"socket", "socketpair", "connect", "bind", "listen",
	// Other processes.
	"execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp",
	"kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "setpgid", "setsid",
	"shmget", "shmat", "shmctl", "msgget", "msgsnd", "msgrcv", "msgctl", "semget", "semop", "semctl", "semtimedop", "mq_open",
	// What a process may do.
	"mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "mount_setattr",
	"unshare", "setns", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
	"keyctl", "add_key", "request_key", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
	"swapon", "swapoff", "sethostname", "setdomainname", "acct", "syslog", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime",
	"iopl", "ioperm", "modify_ldt", "personality", "vhangup", "lookup_dcookie", "setuid", "setgid", "setreuid", "setregid",
	"setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "capset", "nfsservctl", "uselib", "ustat",
}

// confine takes away from the process, for good, what only its start needed. It is called when the session is open and before
// the first Load: a script's initialisers run there.
func confine() error {
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
		Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionErrno, Names: names},
			// Its flags are in memory, where no filter sees them. Whoever is told that there is none takes clone.
			{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
			// Threads are made and signalled by the runtime; processes are not.
			{Action: seccomp.ActionErrno, NamesWithCondtions: []seccomp.NameWithConditions{
				{Name: "clone", Conditions: []seccomp.Condition{{Argument: 0, Operation: seccomp.BitsNotSet, Value: unix.CLONE_THREAD}}},
				{Name: "tgkill", Conditions: []seccomp.Condition{{Argument: 0, Operation: seccomp.NotEqual, Value: uint64(os.Getpid())}}},
			}},
		},
	}})
	if err != nil {
		return fmt.Errorf("confine the process: %w", err)
	}
	return nil
}
