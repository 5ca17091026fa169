//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// start starts a process that gets SIGTERM when ctx or this program ends, however that comes.
func start(ctx context.Context, log *os.File, name string, args ...string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // of this thread: see main
	return cmd, cmd.Start()
}

// stop ends a process in its own time.
func stop(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", filepath.Base(cmd.Path), err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("stop %s: %w", filepath.Base(cmd.Path), err)
	}
	return nil
}

// freeAddress is an address on the loopback where nobody listens now.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// usage is the CPU time that the parts of PiCloud have used so far.
type usage struct{ host, engine, postgres time.Duration }

func (u usage) since(before usage) usage {
	return usage{u.host - before.host, u.engine - before.engine, u.postgres - before.postgres}
}

func (u usage) total() time.Duration { return u.host + u.engine + u.postgres }

// stat is what /proc says of a process.
type stat struct {
	pid, parent int
	name        string
	used        time.Duration // by the process itself
	reaped      time.Duration // by its children that have ended
}

// usageOf adds up the process tree of a PiCloud: the process itself, its Postgres with all backends, also those that have
// ended, and its engine processes.
func usageOf(host int) (usage, error) {
	processes, err := processes()
	if err != nil {
		return usage{}, err
	}
	var sum usage
	for _, p := range processes {
		switch {
		case p.pid == host:
			sum.host = p.used
			sum.engine += p.reaped
		case p.name == "postgres" && p.parent == host:
			sum.postgres += p.used + p.reaped
		case p.name == "postgres" && processes[p.parent].parent == host:
			sum.postgres += p.used
		case p.parent == host:
			sum.engine += p.used
		}
	}
	return sum, nil
}

func processes() (map[int]stat, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	found := map[int]stat{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended since
		}
		p, err := parseStat(string(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		found[p.pid] = p
	}
	return found, nil
}

// tick is the unit of times in /proc: 1/100 s on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// parseStat reads a line as in proc(5). The name is in parentheses and may contain some.
func parseStat(line string) (stat, error) {
	pid, rest, _ := strings.Cut(line, " (")
	end := strings.LastIndex(rest, ") ")
	if end < 0 {
		return stat{}, errors.New("no name")
	}
	p := stat{name: rest[:end]}
	fields := strings.Fields(rest[end+2:])
	var err error
	number := func(text string) int {
		n, failed := strconv.Atoi(text)
		err = errors.Join(err, failed)
		return n
	}
	p.pid, p.parent = number(pid), number(fields[1])
	p.used = time.Duration(number(fields[11])+number(fields[12])) * tick
	p.reaped = time.Duration(number(fields[13])+number(fields[14])) * tick
	return p, err
}
