package sourcetest

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
)

// Address returns an address of this machine, host:port, at which a source may listen in a test. Nobody else is given it meanwhile, as
// happens to a port that was found free and let go: on Linux a socket holds it, which does not listen, and lets others who ask for just this
// port have it.
func Address(tb testing.TB) string {
	tb.Helper()
	syscall.ForkLock.RLock()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(socket)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		tb.Fatal(err)
	}
	if runtime.GOOS == "linux" {
		tb.Cleanup(func() { _ = syscall.Close(socket) })
	} else {
		defer func() { _ = syscall.Close(socket) }()
	}
	if err := syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatal(err)
	}
	bound, err := syscall.Getsockname(socket)
	if err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
}
