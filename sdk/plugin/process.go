package plugin

import (
	"fmt"
	"os"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// sessionLimit is how long a process waits for its session. A host that has not opened it by then is gone.
const sessionLimit = 10 * time.Second

// Process is a plugin's process as it sees itself, for the Serve of each kind. It exits with its session: a host that was killed
// leaves none behind, even where the kernel does not see to it and the plugin's work ignores its end.
type Process struct {
	reach    Reach
	layers   []Layer
	orphaned *time.Timer
}

// Start begins the life of a process that reaches no more than that: it confines itself as far as the machine permits, unless
// LayersEnv says otherwise. What the plugin needs besides it has to have before.
func Start(reach Reach) *Process {
	if reach == Nothing { // what reaches more may have its socket's folder where it was started, and nowhere else
		if err := os.Chdir("/"); err != nil { // that may be outside of the root that the host gave it
			giveUp(err)
		}
	}
	return &Process{
		reach: reach, orphaned: time.AfterFunc(sessionLimit, func() { os.Exit(1) }), layers: confine(reach),
	}
}

// Layers are the layers of isolation that the process has put on itself, or why not.
func (p *Process) Layers() []Layer { return p.layers }

// Opened says that the session is open: the process gives up what only its start needed.
func (p *Process) Opened() {
	p.orphaned.Stop()
	if err := confineSession(p.layers, p.reach); err != nil {
		giveUp(err)
	}
}

// Closed ends the process, since its session has ended.
func (*Process) Closed() { os.Exit(0) }

// Serve talks to the host until the session ends. What versions dispense registers the service of the plugin's kind.
func (*Process) Serve(versions map[int]goplugin.PluginSet) {
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  Handshake,
		VersionedPlugins: versions,
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, ServerOptions()...)...)
		},
	})
}

// giveUp ends the process; the host reads why.
func giveUp(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
