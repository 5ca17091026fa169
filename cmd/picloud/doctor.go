package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/core/config"
	"github.com/picloud/picloud/core/node"
	"github.com/picloud/picloud/plugins"
)

func (c *cli) doctorCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine for what a server needs",
		Long: `Looks for Postgres, the data folder and the kernel, starts each plugin once, and tells which layers of isolation there are
between scripts and this machine, what each keeps scripts from, and how to have those that are missing. It changes
nothing. It takes the settings of "picloud serve"; start it as the user who will run the server.

The exit status is 1 if something is missing without which a server does not start. With --require-isolation each layer is
needed.`,
		Example: `  picloud doctor
  picloud doctor --require-isolation --output json`,
		Args: cobra.NoArgs,
	}
	c.settings(command, c.doctor)
	return command
}

// diagnosis is what doctor prints as JSON.
type diagnosis struct {
	OK     bool           `json:"ok"` // all that is needed is there
	Checks []node.Finding `json:"checks"`
}

func (c *cli) doctor(ctx context.Context, cfg config.Config) error {
	if err := c.launchers(&cfg); err != nil {
		return err
	}
	found := diagnosis{OK: true, Checks: node.Examine(ctx, cfg, plugins.Names())}
	for _, f := range found.Checks {
		found.OK = found.OK && (f.OK || !f.Needed)
	}
	err := c.print(found, func() grid {
		g := grid{head: []string{"CHECK", "STATE", "ABOUT"}}
		for _, f := range found.Checks {
			g.rows = append(g.rows, []string{f.Name, stateOf(f), aboutOf(f)})
		}
		return g
	})
	if err == nil && !found.OK {
		err = errReported
	}
	return err
}

func stateOf(f node.Finding) string {
	switch {
	case f.OK:
		return "ok"
	case f.Needed:
		return "MISSING"
	}
	return "missing"
}

func aboutOf(f node.Finding) string {
	about := f.Found
	if f.Stops != "" {
		if about != "" {
			about += "; "
		}
		about += "stops " + f.Stops
	}
	if f.Help != "" {
		about += "; to have it: " + f.Help
	}
	return about
}
