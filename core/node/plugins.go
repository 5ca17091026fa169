package node

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/config"
	"github.com/picloud/picloud/core/pluginhost"
)

// pluginDir is where plugins are that somebody has installed.
func pluginDir(data string) string { return filepath.Join(data, "plugins") }

// InstalledPlugins are those in the data folder, by name. A node starts with what is there.
func InstalledPlugins(data string) ([]pluginhost.Installed, error) {
	return pluginhost.ReadInstalled(pluginDir(data))
}

// InstallPlugin puts a program into the data folder as a plugin, after it was started once as a node would. builtin are the plugins
// that need not be.
func InstallPlugin(ctx context.Context, cfg config.Config, builtin []string, file string) (pluginhost.Installed, error) {
	there, err := InstalledPlugins(cfg.DataDir)
	if err != nil {
		return pluginhost.Installed{}, err
	}
	taken := map[string]string{}
	for _, e := range append(api.BuiltinEngines(), installedEngines(there)...) {
		for _, extension := range e.Extensions {
			taken[extension] = e.Name
		}
	}
	dir, err := examinedDir(cfg.DataDir)
	if err != nil {
		return pluginhost.Installed{}, err
	}
	return pluginhost.Install(ctx, pluginhost.Config{
		Dir: dir, Command: cfg.PluginCommand, Layers: cfg.PluginLayers, Log: hclog.NewNullLogger(),
	}, pluginDir(cfg.DataDir), file, builtin, taken)
}

// UninstallPlugin removes a plugin from the data folder.
func UninstallPlugin(data, name string) error {
	if err := pluginhost.Uninstall(pluginDir(data), name); err != nil {
		return fmt.Errorf("there is no plugin %q in %s", name, pluginDir(data))
	}
	return nil
}

func installedEngines(plugins []pluginhost.Installed) []api.Engine {
	var engines []api.Engine
	for _, p := range plugins {
		if name, ok := strings.CutPrefix(p.Name, "engine/"); ok {
			engines = append(engines, api.Engine{Name: name, Extensions: p.Extensions})
		}
	}
	return engines
}
