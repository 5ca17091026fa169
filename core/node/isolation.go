package node

import (
	"context"
	"fmt"
	"strings"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/pluginhost"
)

// probed is the plugin whose process shows which layers of isolation there are for scripts. All engines have the same.
const probed = "engine/yaegi"

// startPlugins makes the host of the plugins, and says how well they are isolated.
func (n *Node) startPlugins(ctx context.Context) (*pluginhost.Host, error) {
	var err error
	if n.installed, err = InstalledPlugins(n.cfg.DataDir); err != nil {
		return nil, err
	}
	host, err := pluginhost.New(pluginhost.Config{
		Dir: runDir(n.cfg.DataDir), Command: n.cfg.PluginCommand, Installed: n.installed, Layers: n.cfg.PluginLayers,
		RequireIsolation: n.cfg.RequireIsolation, Log: n.log,
	})
	if err != nil {
		return nil, fmt.Errorf("plugin host: %w", err)
	}
	n.onStop(func(context.Context) error { host.Close(); return nil })
	if err := host.Probe(ctx, probed); err != nil {
		if n.cfg.RequireIsolation {
			return nil, err
		}
		n.log.Warn("nobody knows how well scripts are isolated: picloud doctor tells more", "error", err)
		return host, nil
	}
	var lacks []string
	for _, l := range host.Isolation() {
		n.isolation = append(n.isolation, api.Layer{Name: l.Name, Holds: l.Holds, Why: l.Why})
		if !l.Holds {
			lacks = append(lacks, l.Name)
		}
	}
	switch len(lacks) {
	case 0:
	case len(n.isolation):
		n.log.Warn("nothing keeps scripts from this machine: run only those that you trust; picloud doctor tells more")
	default:
		n.log.Warn("scripts are not isolated in every way: picloud doctor tells more", "lacks", strings.Join(lacks, " "))
	}
	return host, nil
}
