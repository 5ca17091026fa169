// Package pluginhost starts and ends plugin processes: it finds the program, gives it an environment with nothing in it
// and a private folder for its socket, isolates it from the machine as far as that permits, sees that it dies with the host,
// and captures what it prints. What it hands out are clients of the sdk, of the kind that the first half of the plugin's name says.
package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"
)

// ErrClosed says that the host launches nothing any more.
var ErrClosed = errors.New("the plugin host is closed")

// Config is what a host is made of.
type Config struct {
	// Dir is the folder for the plugins' sockets, each of which has a private one in it. Hosts of several processes may share it: each
	// has a folder of its own in it, and removes those of processes that are gone. A socket's path has a limit of about
	// a hundred bytes, so Dir should not have more than sixty.
	Dir string
	// Command runs a built-in plugin; the plugin's name is appended.
	Command []string
	// Installed are the plugins beside those.
	Installed []Installed
	// Layers are the layers of isolation that processes are to have, by the names that Isolation gives them. nil: all that the machine has.
	Layers []string
	// RequireIsolation has a start fail where one of the layers does not hold.
	RequireIsolation bool
	Log              hclog.Logger
}

// Host launches plugins. Its methods are safe for concurrent use.
type Host struct {
	cfg     Config
	dir     string // of this process
	log     hclog.Logger
	builtin *os.File // the program of Command, held open like those of installed plugins

	installed map[string]*program // by the plugin's name

	families sync.Mutex
	known    map[string]*family // by its name

	mu        sync.Mutex
	processes map[*Process]bool
	closed    bool
	next      int
}

// New prepares the folder, opens the program, and tries which layers of isolation there are.
func New(cfg Config) (*Host, error) {
	path, err := exec.LookPath(cfg.Command[0])
	if err != nil {
		return nil, fmt.Errorf("find plugin program: %w", err)
	}
	builtin, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open plugin program: %w", err)
	}
	dir, err := makeDir(cfg.Dir)
	if err != nil {
		_ = builtin.Close() // read-only
		return nil, fmt.Errorf("make socket folder: %w", err)
	}
	h := &Host{
		cfg: cfg, dir: dir, log: cfg.Log.Named("plugin"), builtin: builtin, installed: map[string]*program{}, processes: map[*Process]bool{},
		known: map[string]*family{},
	}
	h.openInstalled()
	return h, nil
}

// makeDir makes the folder of this process in base and removes those of processes that are gone.
func makeDir(base string) (string, error) {
	if err := os.MkdirAll(base, 0o711); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(base)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || pid == os.Getpid() {
			if err := os.RemoveAll(filepath.Join(base, e.Name())); err != nil {
				return "", err
			}
		}
	}
	dir := filepath.Join(base, strconv.Itoa(os.Getpid()))
	return dir, os.Mkdir(dir, 0o711) // processes of other users find their own folders in it
}

// Close ends every process and removes the folder.
func (h *Host) Close() {
	h.mu.Lock()
	h.closed = true
	var all []*Process
	for p := range h.processes {
		all = append(all, p)
	}
	h.mu.Unlock()
	for _, p := range all {
		p.Kill()
		<-p.ended
	}
	h.closePrograms()
	if err := os.RemoveAll(h.dir); err != nil {
		h.log.Warn("socket folder stays behind", "error", err)
	}
	_ = os.Remove(h.cfg.Dir) // unless another process uses it
}

// Launch starts the named plugin ("engine/yaegi") and returns when its session is open. It takes at most 5 s; a start that
// fails or is given up leaves nothing behind. It fails with ErrClosed after Close, and with an error that wraps ErrDied
// when the process ended by itself.
func (h *Host) Launch(ctx context.Context, name string) (*Process, error) {
	of, err := h.family(name)
	if err != nil {
		return nil, fmt.Errorf("start plugin %s: %w", name, err)
	}
	program, err := h.program(name)
	if err != nil {
		return nil, fmt.Errorf("start plugin %s: %w", name, err)
	}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, ErrClosed
	}
	h.next++
	p := newProcess(h, of, name, program, filepath.Join(h.dir, strconv.Itoa(h.next)))
	h.processes[p] = true
	h.mu.Unlock()

	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("it was not ready within %s", startLimit))
	defer cancel()
	started := make(chan error, 1)
	go p.live(started)
	select {
	case err := <-started:
		if err != nil {
			return nil, fmt.Errorf("start plugin %s: %w", name, err)
		}
		return p, nil
	case <-ctx.Done():
		p.Kill()
		return nil, fmt.Errorf("start plugin %s: %w", name, context.Cause(ctx))
	}
}

// forget takes a process off the list when nothing of it is left.
func (h *Host) forget(p *Process) {
	h.mu.Lock()
	delete(h.processes, p)
	h.mu.Unlock()
}
