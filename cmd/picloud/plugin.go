package main

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/config"
	"github.com/picloud/picloud/core/node"
	"github.com/picloud/picloud/plugins"
)

func (c *cli) pluginCommand() *cobra.Command {
	return group("plugin", "List and install plugins", "",
		&cobra.Command{
			Use: "ls", Short: "List the plugins, built in and installed", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return c.listPlugins() },
		},
		&cobra.Command{
			Use: "add FILE", Short: "Install a plugin, in place of an earlier version of it", Args: cobra.ExactArgs(1),
			Long: `Starts a program once, confined as a server would, to see that it is a plugin and what it is, and copies it into the data folder. Only
that very program is started from then on. A server knows its plugins from its start: restart it afterwards. Where several servers
share a database, each needs the plugin.

An engine runs scripts and reaches nothing but the server. A sink takes what leaves the platform and a source brings events in: both
reach the network. A plugin is trusted with what it is given. It is linked statically (CGO_ENABLED=0).`,
			Example: `  picloud plugin add ./stack
  picloud plugin add ./stack --data /var/lib/picloud`,
			RunE: func(cmd *cobra.Command, args []string) error { return c.addPlugin(cmd.Context(), args[0]) },
		},
		&cobra.Command{
			Use: "delete NAME", Aliases: []string{"rm"}, Short: "Remove an installed plugin", Args: cobra.ExactArgs(1),
			Long:    "Removes a plugin from the data folder. What needs it stays, and waits until it is there again: scripts of an\nengine answer 503, entries of a sink are retried.",
			Example: "  picloud plugin delete engine/stack",
			RunE: func(_ *cobra.Command, args []string) error {
				data, err := c.dataDir()
				if err != nil {
					return err
				}
				return node.UninstallPlugin(data, args[0])
			},
		},
		&cobra.Command{
			Use: "run NAME", Short: "Be a built-in plugin", Args: cobra.ExactArgs(1),
			Long: `Runs a built-in plugin, such as engine/yaegi. A server starts its plugins so, as processes of their own; run by hand
it says that it is a plugin, and ends.`,
			RunE: func(_ *cobra.Command, args []string) error { return plugins.Run(args[0]) },
		},
	)
}

// listedPlugin is a plugin as plugin ls shows it.
type listedPlugin struct {
	Name       string   `json:"name"`
	Extensions []string `json:"extensions"` // of the files that an engine runs
	Version    string   `json:"version"`    // of an installed one
	SHA256     string   `json:"sha256"`
	Builtin    bool     `json:"builtin"`
}

func (c *cli) listPlugins() error {
	data, err := c.dataDir()
	if err != nil {
		return err
	}
	installed, err := node.InstalledPlugins(data)
	if err != nil {
		return err
	}
	var all []listedPlugin
	extensions := map[string][]string{}
	for _, e := range api.BuiltinEngines() {
		extensions["engine/"+e.Name] = e.Extensions
	}
	for _, name := range plugins.Names() {
		all = append(all, listedPlugin{Name: name, Extensions: extensions[name], Builtin: true})
	}
	for _, p := range installed {
		all = append(all, listedPlugin{Name: p.Name, Extensions: p.Extensions, Version: p.Version, SHA256: p.SHA256})
	}
	return printList(c, all, []string{"PLUGIN", "VERSION", "FILES", "SHA-256"}, func(p *listedPlugin) []string {
		version, sum := p.Version, p.SHA256
		if p.Builtin {
			version, sum = "built in", "-"
		}
		return []string{p.Name, version, strings.Join(p.Extensions, " "), sum[:min(12, len(sum))]}
	})
}

func (c *cli) addPlugin(ctx context.Context, file string) error {
	cfg := config.Default()
	data, err := c.dataDir()
	if err != nil {
		return err
	}
	if cfg.DataDir, err = filepath.Abs(data); err != nil {
		return err
	}
	if err := c.launchers(&cfg); err != nil {
		return err
	}
	p, err := node.InstallPlugin(ctx, cfg, plugins.Names(), file)
	if err != nil {
		return err
	}
	return c.print(p, func() grid {
		return grid{rows: [][]string{
			{"plugin", p.Name},
			{"version", p.Version},
			{"files", strings.Join(p.Extensions, " ")},
			{"SHA-256", p.SHA256},
			{"next", "restart the server"},
		}}
	})
}
