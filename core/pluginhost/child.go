package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// drainLimit is how long the pipes of a process that has ended are still read. They end with the last process that has
// them, which may be one that got away.
const drainLimit = 250 * time.Millisecond

// errKilled says that a process was told to end before it began.
var errKilled = errors.New("the process was killed")

// child is one operating system process, in the form that go-plugin asks for (runner.Runner).
type child struct {
	program *os.File
	dir     string                  // made for it, for its socket
	has     func(layer string) bool // of isolation, from its start
	home    bool                    // it starts in dir, and knows it only as that
	args    []string                // the first is the name under which it is listed
	env     []string
	stderr  *capture

	out  *os.File // its standard output
	errs *os.File // its standard error

	mu     sync.Mutex
	cmd    *exec.Cmd // nil before the start
	gone   bool      // it has ended: its id may soon be another's
	killed bool

	reaped chan struct{} // closed when it has ended and nothing of it is left; never if it was not started
	status error         // how it ended; read it after reaped
}

// Start is part of runner.Runner.
func (c *child) Start(context.Context) error {
	started := make(chan error, 1)
	go c.live(started)
	return <-started
}

// live starts the process and waits for its end, on a thread that it keeps for as long: the kernel sends the parent-death
// signal when the thread that forked ends, not the process. The thread ends with the goroutine, since it is never
// unlocked; so what it is set to stays with it and its child.
func (c *child) live(started chan<- error) {
	runtime.LockOSThread()
	out, err := c.fork()
	started <- err
	if err != nil {
		return
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer c.errs.Close() // read-only
		l := &lines{to: c.stderr}
		_, _ = io.Copy(l, c.errs) // it ends with the process, or at the limit
		l.flush()
		c.stderr.end()
	}()
	c.status = c.wait()
	limit := time.Now().Add(drainLimit)
	_ = errors.Join(out.SetReadDeadline(limit), c.errs.SetReadDeadline(limit)) // pipes can
	<-read
	close(c.reaped)
}

// fork starts the process.
func (c *child) fork() (*os.File, error) {
	out, outEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer outEnd.Close() // the child has its own
	errs, errsEnd, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	defer errsEnd.Close()
	cmd, err := c.command()
	if err != nil {
		return nil, errors.Join(err, out.Close(), errs.Close())
	}
	cmd.Args = c.args
	cmd.Env = c.env
	cmd.Stdout, cmd.Stderr = outEnd, errsEnd
	c.mu.Lock()
	defer c.mu.Unlock()
	if err = errKilled; !c.killed {
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, out.Close(), errs.Close())
	}
	c.cmd, c.out, c.errs = cmd, out, errs
	settle(cmd.Process.Pid)
	return out, nil
}

// wait returns when the process has ended, all that it started has been killed, and its id is free.
func (c *child) wait() error {
	awaitEnd(c.cmd.Process.Pid)
	c.mu.Lock()
	c.gone = true
	c.mu.Unlock()
	return reap(c.cmd)
}

// kill ends the process and all that it started, at once. Before the start it prevents it.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killed = true
	if c.cmd != nil && !c.gone {
		killGroup(c.cmd.Process.Pid)
	}
}

// died waits for the end of the process and reports whether it ended by itself rather than by a kill.
func (c *child) died() bool {
	if c.pid() == 0 {
		return false
	}
	<-c.reaped
	var status *exec.ExitError
	if errors.As(c.status, &status) {
		return status.ProcessState.Exited() || status.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL
	}
	return true
}

// how the process has ended, after reaped.
func (c *child) how() string {
	if c.status == nil {
		return "exit status 0"
	}
	return c.status.Error()
}

// Wait is part of runner.Runner.
func (c *child) Wait(context.Context) error {
	<-c.reaped
	return c.status
}

// Kill is part of runner.Runner.
func (c *child) Kill(context.Context) error {
	c.kill()
	return nil
}

// ID is part of runner.Runner. It is empty before the start.
func (c *child) ID() string {
	if pid := c.pid(); pid != 0 {
		return strconv.Itoa(pid)
	}
	return ""
}

func (c *child) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return 0
	}
	return c.cmd.Process.Pid
}

// Stdout is part of runner.Runner.
func (c *child) Stdout() io.ReadCloser { return c.out }

// Stderr is part of runner.Runner. It is empty: live reads the real one.
func (c *child) Stderr() io.ReadCloser { return io.NopCloser(eof{}) }

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// Name is part of runner.Runner.
func (c *child) Name() string { return c.args[0] }

// Diagnose is part of runner.Runner: what may explain a failed start.
func (c *child) Diagnose(context.Context) string {
	if last := c.stderr.lastLine(); last != "" {
		return fmt.Sprintf("it said: %s", last)
	}
	return ""
}

// PluginToHost is part of runner.Runner: where the host finds the plugin's socket.
func (c *child) PluginToHost(network, address string) (string, string, error) {
	dir, name := filepath.Split(address)
	if network != "unix" || filepath.Clean(dir) != c.socketDir() {
		return "", "", fmt.Errorf("it listens on %s %s, not in its own folder", network, address)
	}
	return network, filepath.Join(c.dir, name), nil
}

// socketDir is the folder of the process's socket as the process sees it.
func (c *child) socketDir() string {
	switch {
	case c.has(layerRoot):
		return "/"
	case c.home:
		return "."
	}
	return c.dir
}

// HostToPlugin is part of runner.Runner. Nobody asks: plugins do not call the host.
func (c *child) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
