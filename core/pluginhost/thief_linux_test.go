package pluginhost_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/fault"
)

func init() {
	more["engine/thief"] = func() { engine.Serve(thief{}) }
	more["engine/hog"] = func() { engine.Serve(hog{}) }
	more["poor"] = func() { runPoorHost(os.Args[3]) }
}

// thief is an engine that does, with the whole of Go, what no script's process may. The body names an attack and its target.
type thief struct{ enginetest.Puppet }

func (thief) Invoke(_ context.Context, inv *engine.Invocation, out engine.Reply) error {
	what, target, _ := strings.Cut(string(inv.Body), " ")
	if err := attacks[what](target); err != nil {
		return fault.New(fault.ScriptError, fault.Script, "%v", err)
	}
	return out.Head(engine.Head{Status: 200})
}

// attacks are what the thief can do to a target.
var attacks = map[string]func(string) error{
	// Files.
	"read":   func(path string) error { _, err := os.ReadFile(path); return err },
	"write":  func(path string) error { return os.WriteFile(path+".new", nil, 0o600) },
	"fill":   func(path string) error { return os.WriteFile(path+".new", []byte("x"), 0o600) },
	"list":   func(path string) error { _, err := os.ReadDir(filepath.Dir(path)); return err },
	"look":   func(path string) error { _, err := os.Stat(path); return err },
	"remove": os.Remove,
	// Networks.
	"tcp": dial("tcp"), "udp": dial("udp"), "unix": dial("unix"),
	"serve": func(string) error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		return l.Close()
	},
	"raw": func(string) error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
		return errors.Join(err, unix.Close(fd))
	},
	// Processes.
	"start": func(string) error { return exec.Command("/bin/true").Run() },
	"fork":  func(string) error { return fork() },
	"exec": func(path string) error {
		err := onThread(func() error { return unix.Exec(path, []string{path}, nil) })
		if errors.Is(err, unix.ENOEXEC) { // all that stopped it is that it is no program
			return nil
		}
		return err
	},
	"kill":    func(pid string) error { return unix.Kill(number(pid), 0) },
	"signal":  func(pid string) error { return unix.Tgkill(number(pid), number(pid), 0) },
	"trace":   func(pid string) error { return onThread(func() error { return unix.PtraceSeize(number(pid)) }) },
	"environ": func(pid string) error { _, err := os.ReadFile("/proc/" + pid + "/environ"); return err },
	"memory-of": func(pid string) error {
		f, err := os.OpenFile("/proc/"+pid+"/mem", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return f.Close()
	},
	"shm": func(id string) error {
		_, err := unix.SysvShmCtl(number(id), unix.IPC_STAT, &unix.SysvShmDesc{})
		return err
	},
	// The machine.
	"mount":    func(path string) error { return unix.Mount("none", path, "tmpfs", 0, "") },
	"hostname": func(name string) error { return unix.Sethostname([]byte(name)) },
	"space":    func(string) error { return onThread(func() error { return unix.Unshare(unix.CLONE_NEWNS) }) },
	"keys": func(string) error {
		_, err := unix.AddKey("user", "picloud", []byte("x"), unix.KEY_SPEC_THREAD_KEYRING)
		return err
	},
	"become": func(string) error { return unix.Setuid(0) },
	// More than its share.
	"memory": func(string) error { // which is not touched
		var all [][]byte
		for range 24 {
			all = append(all, make([]byte, 64<<20))
		}
		bomb = all[0]
		runtime.KeepAlive(all)
		return nil
	},
	"gulp": func(string) error { bomb = make([]byte, 3<<29); return nil },
	"threads": func(string) error {
		var begun, ended sync.WaitGroup
		end := make(chan struct{})
		for range 200 {
			begun.Add(1)
			ended.Go(func() {
				_ = onThread(func() error { begun.Done(); <-end; return nil })
			})
		}
		begun.Wait()
		close(end)
		ended.Wait()
		return nil
	},
	"descriptors": func(string) error {
		for range 200 {
			fd, err := unix.Dup(0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
		}
		return nil
	},
	// What its host left open.
	"inherit": func(descriptor string) error {
		text := make([]byte, 6)
		if _, err := unix.Pread(number(descriptor), text, 0); err != nil {
			return err
		}
		if string(text) != "secret" {
			return errors.New("it is something else")
		}
		return nil
	},
}

var bomb []byte

func dial(network string) func(string) error {
	return func(address string) error {
		c, err := net.Dial(network, address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ended <- f()
	}()
	return <-ended
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(fmt.Sprintf("%q is no target", text))
	}
	return n
}

func fork() error {
	pid, _, errno := unix.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
	switch {
	case errno != 0:
		return errno
	case pid == 0:
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	_, err := unix.Wait4(int(pid), nil, 0, nil)
	return err
}
