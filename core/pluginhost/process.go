package pluginhost

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/plugin"
	"github.com/picloud/picloud/sdk/sink"
	"github.com/picloud/picloud/sdk/source"
)

// startLimit bounds a start, from fork to an open session.
const startLimit = 5 * time.Second

// Why a process has ended, for errors.Is.
var (
	// ErrDied says that the process ended by itself: it crashed, exited, or was killed by somebody else.
	ErrDied = errors.New("the plugin process died")
	// ErrStuck says that it was killed because a run did not end in time.
	ErrStuck = errors.New("a run did not end in time")
)

// Process is one running plugin. Its methods are safe for concurrent use.
type Process struct {
	host   *Host
	family *family
	log    hclog.Logger
	child  *child
	client client
	err    error // read it after done

	isolation []Layer

	killed sync.Once
	kill   chan struct{} // closed to end it
	done   chan struct{} // closed when it serves no more
	ended  chan struct{} // closed when nothing of it is left
}

func newProcess(h *Host, f *family, name string, of *program, dir string) *Process {
	log := h.log.With("plugin", name)
	return &Process{
		host: h, family: f, log: log,
		child: &child{
			program: of.file, dir: dir, has: f.holds, home: f.network, args: of.args,
			stderr: &capture{log: log}, reaped: make(chan struct{}),
		},
		kill: make(chan struct{}), done: make(chan struct{}), ended: make(chan struct{}),
	}
}

// Engine talks to the plugin, which must be an engine.
func (p *Process) Engine() *engine.Client { return p.client.(*engine.Client) }

// Sink talks to the plugin, which must be a sink.
func (p *Process) Sink() *sink.Client { return p.client.(*sink.Client) }

// Source talks to the plugin, which must be a source.
func (p *Process) Source() *source.Client { return p.client.(*source.Client) }

// Done is closed when the process has ended or is of no use any more. Its runs have failed by then.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is why Done is closed: nil after Kill, else an error that wraps ErrDied, ErrStuck or plugin.ErrProtocol. It is nil
// before.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Isolation says which layers of isolation hold for the process.
func (p *Process) Isolation() []Layer { return slices.Clone(p.isolation) }

// Pid is the id of the process. Another process may have it when this one has ended.
func (p *Process) Pid() int { return p.child.pid() }

// Kill ends the process and all that it started, at once. It does not wait, and may be called more than once.
func (p *Process) Kill() { p.killed.Do(func() { close(p.kill) }) }

// live starts the process, waits for its end and cleans up.
func (p *Process) live(started chan<- error) {
	defer close(p.ended)
	defer p.host.forget(p)
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  plugin.Handshake,
		VersionedPlugins: p.family.versions,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		GRPCDialOptions:  plugin.DialOptions(),
		StartTimeout:     startLimit,
		SkipHostEnv:      true,
		RunnerFunc:       p.command,
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: p.host.dir}, // for a folder that we do not use
		SyncStderr:       &lines{to: p.child.stderr},
		Logger:           hclog.NewNullLogger(), // what matters comes as errors
	})
	served := make(chan struct{})
	go func() { // a start can be given up
		select {
		case <-p.kill:
			p.child.kill()
		case <-served:
		}
	}()
	err := p.open(client)
	close(served)
	if err == nil {
		started <- nil
		p.err = p.serve()
		p.child.kill()
		p.client.Close()
	} else {
		p.child.kill()
		started <- p.explain(err)
	}
	close(p.done)
	client.Kill() // waits for the process and the goroutines around it
	if err := os.RemoveAll(p.child.dir); err != nil {
		p.log.Warn("a socket folder stays behind", "error", err)
	}
	if p.err != nil {
		p.log.Warn("plugin process ended", "pid", p.Pid(), "error", p.err, "status", p.child.how())
	}
}

// command makes the process of what go-plugin says: it is started when runner.Start is called.
func (p *Process) command(_ hclog.Logger, spec *exec.Cmd, _ string) (runner.Runner, error) {
	// The folder that go-plugin makes has a name that leaves little of a socket's path to us: the last value counts. One
	// processor, since threads that hand work to one another cost more than they gain.
	p.child.env = append(spec.Env, goplugin.EnvUnixSocketDir+"="+p.child.socketDir(), plugin.LayersEnv+"="+p.family.own(), "GOMAXPROCS=1")
	return p.child, nil
}

// open starts the process and its session. It is bounded by the limits of its parts, and by kill.
func (p *Process) open(from *goplugin.Client) error {
	protocol, err := from.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense(p.family.name)
	if err != nil {
		return err
	}
	c, ok := raw.(client)
	if !ok {
		return fmt.Errorf("it is no plugin but a %T", raw)
	}
	p.client = c
	p.isolation = p.family.isolationOf(c.Layers())
	if p.host.cfg.RequireIsolation {
		return Lacking(p.isolation)
	}
	for i, before := range p.family.found() {
		if l := p.isolation[i]; before.Holds && !l.Holds {
			p.log.Warn("a process lacks a layer of isolation that others have", "layer", l.Name, "why", l.Why)
		}
	}
	return nil
}

// explain says why a start failed. That it cannot be talked to follows from its end, if it ended by itself.
func (p *Process) explain(err error) error {
	if !p.child.died() {
		return err
	}
	if said := p.child.stderr.lastLine(); said != "" {
		return fmt.Errorf("%w: %s: %s", ErrDied, p.child.how(), said)
	}
	return fmt.Errorf("%w: %s", ErrDied, p.child.how())
}

// serve returns why the process is to be ended.
func (p *Process) serve() error {
	select {
	case <-p.kill:
		return nil
	case <-p.client.Stuck():
		return ErrStuck
	case <-p.client.Lost():
	}
	select {
	case <-p.kill: // both: it was the kill
		return nil
	default:
	}
	if err := p.client.Err(); errors.Is(err, plugin.ErrProtocol) {
		return err
	}
	return ErrDied
}
