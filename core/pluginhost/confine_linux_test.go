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
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/picloud/picloud/core/pluginhost"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/fault"
)

// thief is an engine that does, with the whole of Go, what no script's process may. The body names what, and the socket or file
// that it is for.
type thief struct{ enginetest.Puppet }

func (thief) Invoke(_ context.Context, inv *engine.Invocation, out engine.Reply) error {
	what, arg, _ := strings.Cut(string(inv.Body), " ")
	if err := attacks[what](arg); err != nil {
		return fault.New(fault.ScriptError, fault.Script, "%v", err)
	}
	return out.Head(engine.Head{Status: 200})
}

func dial(network string) func(string) error {
	return func(address string) error {
		c, err := net.Dial(network, address)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

func onThread(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return f()
}

var attacks = map[string]func(string) error{
	"read":   func(path string) error { _, err := os.ReadFile(path); return err },
	"write":  func(path string) error { return os.WriteFile(path+".new", nil, 0o600) },
	"list":   func(path string) error { _, err := os.ReadDir(filepath.Dir(path)); return err },
	"look":   func(path string) error { _, err := os.Stat(path); return err },
	"remove": func(path string) error { return os.Remove(path) },
	"secret": func(string) error { // of the host
		_, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", os.Getppid()))
		return err
	},
	"tcp": dial("tcp"), "udp": dial("udp"), "unix": dial("unix"),
	"name": func(string) error { _, err := net.LookupHost("localhost.localdomain"); return err },
	"serve": func(string) error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		return l.Close()
	},
	"raw":   func(string) error { _, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP); return err },
	"start": func(string) error { return exec.Command("/bin/true").Run() },
	"fork":  func(string) error { return fork() },
	"exec": func(string) error {
		return onThread(func() error { return unix.Exec("/bin/true", []string{"true"}, nil) })
	},
	"kill":   func(string) error { return unix.Kill(os.Getppid(), 0) },
	"signal": func(string) error { return unix.Tgkill(os.Getppid(), os.Getppid(), 0) },
	"trace":  func(string) error { return onThread(func() error { return unix.PtraceAttach(os.Getppid()) }) },
	"mount":  func(path string) error { return unix.Mount("none", filepath.Dir(path), "tmpfs", 0, "") },
	"space":  func(string) error { return onThread(func() error { return unix.Unshare(unix.CLONE_NEWNS) }) },
	"keys": func(string) error {
		_, err := unix.AddKey("user", "picloud", []byte("x"), unix.KEY_SPEC_SESSION_KEYRING)
		return err
	},
	"become": func(string) error { return unix.Setuid(0) },
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

// No script's process reaches files, sockets or other processes, whatever runs in it; and each attack works where nothing
// confines it, or it would prove nothing. Some need to be root for that.
func TestConfined(t *testing.T) {
	t.Parallel()
	h := newHost(t, hclog.NewNullLogger())
	confined, open := launch(t, h, "engine/thief"), launch(t, h, "engine/open")
	dir := t.TempDir()
	target := func(network, address string) string {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l.Addr().String()
	}
	tcp, socket := target("tcp", "127.0.0.1:0"), target("unix", filepath.Join(dir, "s"))
	for name := range attacks {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		body := name + " " + file
		switch name {
		case "tcp", "udp":
			body = name + " " + tcp
		case "unix":
			body = name + " " + socket
		}
		_, err := invoke(t.Context(), confined, body)
		if err == nil || !strings.Contains(err.Error(), "not permitted") && name != "name" {
			t.Errorf("%s: %v", name, err)
		}
		switch name {
		case "become", "exec", "mount", "trace": // would be done, the last to this process
			continue
		}
		if _, err := invoke(t.Context(), open, body); err != nil && os.Getuid() == 0 && name != "name" && name != "keys" {
			t.Errorf("%s proves nothing: %v", name, err)
		}
	}
}

// A process that takes all memory is ended by its limit, long before the machine has none left.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	p := launch(t, newHost(t, hclog.NewNullLogger()), "engine/hog")
	_, err := invoke(t.Context(), p, "")
	if f := fault.From(err); f == nil || f.Kind != fault.EngineLost {
		t.Errorf("%v", err)
	}
	<-p.Done()
	if err := p.Err(); !errors.Is(err, pluginhost.ErrDied) {
		t.Errorf("%v", err)
	}
}

// hog is an engine that takes memory without end.
type hog struct{ enginetest.Puppet }

func (hog) Invoke(context.Context, *engine.Invocation, engine.Reply) error {
	for text := []byte("x"); ; {
		text = append(text, text...)
	}
}
