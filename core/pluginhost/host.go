// Package pluginhost starts and ends plugin processes: it finds the program, gives it an environment with nothing in it
// and a private folder for its socket, sees that it dies with the host, and captures what it prints. What it hands out
// are interfaces of the sdk.
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
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/plugin"
)

// startLimit bounds a start, from fork to an open session.
const startLimit = 5 * time.Second

// ErrClosed says that the host launches nothing any more.
var ErrClosed = errors.New("the plugin host is closed")

// Config is what a host is made of.
type Config struct {
	// Dir is the folder for the plugins' sockets, made with mode 0700. Hosts of several processes may share it: each
	// has a folder of its own in it, and removes those of processes that are gone. A socket's path has a limit of about
	// a hundred bytes, so Dir should not have more than sixty.
	Dir string
	// Command runs a built-in plugin; the plugin's name is appended.
	Command []string
	Log     hclog.Logger
}

// Host launches plugins. Its methods are safe for concurrent use.
type Host struct {
	cfg     Config
	dir     string // of this process
	log     hclog.Logger
	program *os.File // held open, so that what is launched is what was found at the start, whatever the path says later

	mu        sync.Mutex
	processes map[*Process]bool
	closed    bool
	next      int
}

// New prepares the folder and opens the program.
func New(cfg Config) (*Host, error) {
	dir, err := makeDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("make socket folder: %w", err)
	}
	path, err := exec.LookPath(cfg.Command[0])
	if err != nil {
		return nil, fmt.Errorf("find plugin program: %w", err)
	}
	program, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open plugin program: %w", err)
	}
	return &Host{cfg: cfg, dir: dir, log: cfg.Log.Named("plugin"), program: program, processes: map[*Process]bool{}}, nil
}

// makeDir makes the folder of this process in base and removes those of processes that are gone.
func makeDir(base string) (string, error) {
	if err := os.MkdirAll(base, 0o700); err != nil {
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
	return dir, os.Mkdir(dir, 0o700)
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
	_ = h.program.Close() // read-only
	if err := os.RemoveAll(h.dir); err != nil {
		h.log.Warn("socket folder stays behind", "error", err)
	}
	_ = os.Remove(h.cfg.Dir) // unless another process uses it
}

// Process is one running plugin.
type Process struct {
	name   string
	host   *Host
	client *goplugin.Client
	engine *engine.Client
	pid    int
	dir    string

	killed sync.Once
	kill   chan struct{} // closed to end it
	done   chan struct{} // closed when it serves no more
	ended  chan struct{} // closed when nothing of it is left
}

// Engine talks to the plugin as an engine.
func (p *Process) Engine() *engine.Client { return p.engine }

// Done is closed when the process has ended or is of no use any more.
func (p *Process) Done() <-chan struct{} { return p.done }

// Pid is the id of the process.
func (p *Process) Pid() int { return p.pid }

// Kill ends the process and all that it started, at once. It does not wait.
func (p *Process) Kill() { p.killed.Do(func() { close(p.kill) }) }

// Launch starts the named plugin ("engine/yaegi") and returns when its session is open. It takes at most 5 s.
func (h *Host) Launch(ctx context.Context, name string) (*Process, error) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, ErrClosed
	}
	h.next++
	p := &Process{
		name: name, host: h, dir: filepath.Join(h.dir, strconv.Itoa(h.next)),
		kill: make(chan struct{}), done: make(chan struct{}), ended: make(chan struct{}),
	}
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

// live starts the process, waits for its end and cleans up. It keeps its thread for as long: the kernel sends the
// parent-death signal when the thread that forked ends, not the process.
func (p *Process) live(started chan<- error) {
	lockThread()
	h := p.host
	defer func() {
		h.mu.Lock()
		delete(h.processes, p)
		h.mu.Unlock()
		close(p.ended)
	}()
	defer func() { _ = os.RemoveAll(p.dir) }() // Close tries again
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		close(p.done)
		started <- err
		return
	}
	cmd := h.command(p)
	output := &capture{log: h.log.With("plugin", p.name)}
	p.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  plugin.Handshake,
		VersionedPlugins: engine.Versions(),
		Cmd:              cmd,
		SkipHostEnv:      true,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		StartTimeout:     startLimit,
		Logger:           output.logger(),
		GRPCDialOptions: []grpc.DialOption{grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(plugin.MaxMessage), grpc.MaxCallSendMsgSize(plugin.MaxMessage))},
	})
	err := p.start(cmd) // bounded by StartTimeout, after which go-plugin kills what it forked
	if err != nil {
		killGroup(cmd)
		p.client.Kill()
		close(p.done)
		started <- err
		return
	}
	started <- nil
	select {
	case <-p.kill:
		output.hush()
	case <-p.engine.Lost():
	case <-p.engine.Stuck():
		h.log.Warn("a run did not end in time: its process is killed", "plugin", p.name, "pid", p.pid)
	}
	killGroup(cmd)
	p.engine.Close()
	close(p.done)
	p.client.Kill() // waits for the process and the goroutines around it
}

func (p *Process) start(cmd *exec.Cmd) error {
	protocol, err := p.client.Client()
	if err != nil {
		return err
	}
	p.pid = cmd.Process.Pid
	lowerPriority(p.pid)
	raw, err := protocol.Dispense(engine.PluginName)
	if err != nil {
		return err
	}
	client, ok := raw.(*engine.Client)
	if !ok {
		return fmt.Errorf("it is no engine but a %T", raw)
	}
	p.engine = client
	return nil
}

// command is the process to start: our own program by its descriptor, no environment but what go-plugin asks for.
func (h *Host) command(p *Process) *exec.Cmd {
	cmd := exec.Command(programPath(h.program), append(h.cfg.Command[1:len(h.cfg.Command):len(h.cfg.Command)], p.name)...)
	cmd.Args[0] = h.cfg.Command[0]
	cmd.Env = []string{"PLUGIN_UNIX_SOCKET_DIR=" + p.dir, "GOMAXPROCS=1"}
	cmd.SysProcAttr = processAttributes()
	return cmd
}
