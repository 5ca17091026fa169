package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// environment is all that the server and its tools see of ours. LC_ALL keeps their messages English, and keeps macOS
// from starting threads in them.
var environment = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}

// process is one run of the postgres program. Its fields other than cmd may be read after exited is closed.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error  // how it ended; never nil
	words  string // the last lines that it wrote
}

// startProcess runs postgres from bin as the account.
func startProcess(bin string, args []string, a account, log hclog.Logger) (*process, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make log pipe: %w", err)
	}
	p := &process{
		cmd:    exec.Command(filepath.Join(bin, "postgres"), args...),
		exited: make(chan struct{}),
	}
	p.cmd.Dir = "/"
	p.cmd.Env = environment
	p.cmd.Stdout, p.cmd.Stderr = write, write
	p.cmd.SysProcAttr = a.attributes()

	started := make(chan error)
	go func() {
		defer func() { _ = read.Close() }()
		// The parent-death signal is sent when the thread that forked ends, not the process. So this goroutine keeps
		// its thread for the server's whole life.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		_ = write.Close()
		started <- err
		if err != nil {
			return
		}
		var reader sync.WaitGroup
		reader.Go(func() { p.words = follow(read, log) })
		if p.err = p.cmd.Wait(); p.err == nil {
			p.err = errors.New("exit status 0")
		}
		// A killed postmaster leaves children that hold the pipe for a moment; its last words are in it already.
		_ = read.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		reader.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	return p, nil
}

// stop shuts the server down: cleanly while ctx lasts, then at the cost of a recovery.
func (p *process) stop(ctx context.Context) error {
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
	}
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second): // as long as Postgres itself gives its children
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	return fmt.Errorf("database server stopped before it was ready to: %w", context.Cause(ctx))
}

// follow passes the server's log on until the pipe ends, and returns the last lines. Errors of statements and refused
// connections are told to the client, who knows what they mean; here they are the finest detail.
func follow(read *os.File, log hclog.Logger) string {
	const kept = 10
	var last []string
	lines := bufio.NewReaderSize(read, 16<<10)
	for {
		line, cut, err := lines.ReadLine()
		if err != nil {
			return strings.Join(last, "\n")
		}
		for cut && err == nil { // what is longer than the buffer is not worth keeping
			_, cut, err = lines.ReadLine()
		}
		text := string(line)
		if last = append(last, text); len(last) > kept {
			last = last[1:]
		}
		level := hclog.Trace
		switch severity, _, _ := strings.Cut(text, ":"); severity {
		case "PANIC":
			level = hclog.Error
		case "WARNING":
			level = hclog.Warn
		case "LOG":
			level = hclog.Debug
		}
		log.Log(level, "server says", "line", text)
	}
}

// run runs one of the server's tools to its end. Its output is part of the error.
func run(ctx context.Context, a account, stdin string, program string, args ...string) error {
	// As for the server itself, so that no half-done work goes on after us.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = "/"
	cmd.Env = environment
	cmd.Stdin = strings.NewReader(stdin)
	cmd.SysProcAttr = a.attributes()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 5 * time.Second
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(program), err, strings.TrimSpace(string(output)))
	}
	return nil
}
