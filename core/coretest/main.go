// Package coretest is the test kit of the core: a real database for each test, a logger, waiting without sleeping,
// and child processes made of the test binary itself. A package that uses it has
//
//	func TestMain(m *testing.M) { coretest.Main(m) }
package coretest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childEnv names what the test binary is to be instead of a run of tests. stdinEnv says that it was started by Command,
// and must end when its standard input does.
const (
	childEnv = "PICLOUD_TEST_CHILD"
	stdinEnv = "PICLOUD_TEST_STDIN"
)

// Option changes what Main does.
type Option func(*options)

type options struct {
	children map[string]func() error
}

// Child makes the test binary run a function, and no test, when PICLOUD_TEST_CHILD in its environment is name: as
// Command sets it, or a test that starts it in its own way. An error is printed, and the exit status is 1.
func Child(name string, run func() error) Option {
	return func(o *options) { o.children[name] = run }
}

// Main runs the tests of a package, stops the test server if one was started, and fails when goroutines are left. It
// does not return.
func Main(m *testing.M, with ...Option) {
	o := options{children: map[string]func() error{}}
	for _, option := range with {
		option(&o)
	}
	if name, is := os.LookupEnv(childEnv); is {
		os.Exit(runChild(name, o.children[name]))
	}
	code := m.Run()
	if err := stopServer(); err != nil {
		fmt.Fprintln(os.Stderr, "stop test server:", err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := findLeak(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// findLeak gives what ends by itself, such as a connection whose other side is told, ten seconds for it: goleak has less than half of one,
// in which a busy machine may not get to it.
func findLeak() (err error) {
	for end := time.Now().Add(10 * time.Second); ; {
		if err = goleak.Find(); err == nil || time.Now().After(end) {
			return err
		}
	}
}

func runChild(name string, run func() error) int {
	if run == nil {
		fmt.Fprintf(os.Stderr, "test child %q is unknown\n", name)
		return 1
	}
	if os.Getenv(stdinEnv) != "" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(1) // the test that started us is gone
		}()
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Command returns the test binary as the child of that name, not started yet. Standard input is taken: by it the child
// ends with this process, even when that is killed. A child that still runs at the end of the test is killed.
func Command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, kill := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+name, stdinEnv+"=1")
	cmd.WaitDelay = 5 * time.Second
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		kill()
		var exit *exec.ExitError
		if cmd.Process != nil && cmd.ProcessState == nil {
			if err := cmd.Wait(); err != nil && !errors.As(err, &exit) && !errors.Is(err, context.Canceled) {
				t.Errorf("wait for child %s: %v", name, err)
			}
		}
	})
	return cmd
}
