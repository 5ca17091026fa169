package pluginhost

import (
	"context"
	"path/filepath"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/picloud/picloud/sdk/engine"
)

// Socket is where the process listens, for who should not reach it.
func (p *Process) Socket() string {
	found, err := filepath.Glob(filepath.Join(p.child.dir, "plugin*"))
	if err != nil || len(found) != 1 {
		panic(found)
	}
	return found[0]
}

// Layers are the names of all layers of isolation.
func Layers() []string {
	var names []string
	for _, l := range layers {
		names = append(names, l.Name)
	}
	return names
}

// A kind of plugins whose work is on the network, and that are engines all the same: so they can be told what to attack.
func init() {
	kinds["net"] = kind{network: true, versions: map[int]goplugin.PluginSet{1: {"net": &NetPlugin{}}}}
}

// NetPlugin is both sides of such a plugin. On the host's side it has no engine.
type NetPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
	Engine engine.Engine
}

// GRPCServer is part of goplugin.GRPCPlugin.
func (n *NetPlugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	engine.Register(s, n.Engine)
	return nil
}

// GRPCClient is part of goplugin.GRPCPlugin.
func (n *NetPlugin) GRPCClient(ctx context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return engine.Dial(ctx, conn)
}
