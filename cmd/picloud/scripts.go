package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

func (c *cli) scriptsCommand() *cobra.Command {
	return c.inApp(group("scripts", "List scripts and their versions, go back to one, delete",
		"  picloud scripts ls\n  picloud scripts versions hello\n  picloud scripts activate hello 2",
		&cobra.Command{
			Use: "ls", Short: "List the scripts of the app", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				scripts, err := list[api.Script](cmd.Context(), c, c.scripts(), nil, 0)
				if err != nil {
					return absentApp(err, c.app)
				}
				return printList(c, scripts, []string{"NAME", "KIND", "ENGINE", "VERSION", "TIMEOUT", "ATTEMPTS", "UPDATED", "IMPORTED BY"},
					func(s *api.Script) []string {
						return []string{
							s.Name, s.Kind, s.Engine, number(s.ActiveVersion), milliseconds(float64(s.TimeoutMS)), fmt.Sprint(s.MaxAttempts),
							clock(s.UpdatedAt), strings.Join(s.ImportedBy, ", "),
						}
					})
			},
		},
		&cobra.Command{
			Use: "show NAME", Short: "Show a script", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				s, err := call[api.Script](cmd.Context(), c, http.MethodGet, c.scripts(args[0]), nil)
				if err != nil {
					return c.absentScript(err, args[0])
				}
				return c.print(s, func() grid { return scriptGrid(&s) })
			},
		},
		&cobra.Command{
			Use: "versions NAME", Short: "List the versions of a script, newest first", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return c.listVersions(cmd.Context(), args[0]) },
		},
		&cobra.Command{
			Use: "activate NAME VERSION", Short: "Make a version the one that runs, also an older one", Args: cobra.ExactArgs(2),
			RunE: func(cmd *cobra.Command, args []string) error {
				s, err := call[api.Script](cmd.Context(), c, http.MethodPost, c.scripts(args[0], "versions", args[1], "activate"), nil)
				if err != nil {
					return absent(err, fmt.Sprintf("version %s of a script %q in app %q", args[1], args[0], c.app),
						"scripts versions "+args[0]+" --app "+c.app)
				}
				return c.print(s, func() grid { return scriptGrid(&s) })
			},
		},
		&cobra.Command{
			Use: "usage NAME", Short: "Count the runs of a script, day by day", Args: cobra.ExactArgs(1),
			Long: "Counts all runs of a script, also those of which no record is kept. Days are in UTC.",
			RunE: func(cmd *cobra.Command, args []string) error { return c.scriptUsage(cmd.Context(), args[0]) },
		},
		c.limitCommand(),
		c.transactionalCommand(),
		c.grantsCommand(),
		c.scriptLimitsCommand(),
		c.pauseCommand("NAME", "pause", "Have the script start nothing", c.scripts, c.absentScript),
		c.pauseCommand("NAME", "resume", "End a pause of the script", c.scripts, c.absentScript),
		&cobra.Command{
			Use: "delete NAME", Aliases: []string{"rm"}, Short: "Delete a script with its versions and routes", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.absentScript(c.remove(cmd.Context(), c.scripts(args[0])), args[0])
			},
		},
	))
}

// limitCommand changes the policy of a script.
func (c *cli) limitCommand() *cobra.Command {
	var f policyFlags
	command := &cobra.Command{
		Use: "policy NAME", Short: "Say how often, how fast and in which order a script runs", Args: cobra.ExactArgs(1),
		Long: `Sets the policy of a script: its limits apply to all its runs, the rest to events that come neither through a queue nor
through a trigger. It replaces the whole policy; without a flag it is taken away.`,
		Example: `  picloud scripts policy crawl --concurrency 2 --rate 30/1m`,
		RunE: func(cmd *cobra.Command, args []string) error {
			policy, err := f.read(c)
			if err != nil {
				return err
			}
			if policy == nil {
				policy = &api.Policy{}
			}
			s, err := call[api.Script](cmd.Context(), c, http.MethodPatch, c.scripts(args[0]), api.ScriptChange{Policy: policy})
			if err != nil {
				return c.absentScript(err, args[0])
			}
			return c.print(s, func() grid { return scriptGrid(&s) })
		},
	}
	f.add(command)
	return command
}

func (c *cli) scripts(more ...string) string {
	return client.Path(append([]string{"apps", c.app, "scripts"}, more...)...)
}

func scriptGrid(s *api.Script) grid {
	return grid{rows: [][]string{
		{"id", s.ID},
		{"name", s.Name},
		{"kind", s.Kind},
		{"engine", s.Engine},
		{"description", s.Description},
		{"version", number(s.ActiveVersion)},
		{"timeout", milliseconds(float64(s.TimeoutMS))},
		{"max attempts", fmt.Sprint(s.MaxAttempts)},
		{"policy", policyText(&s.Policy)},
		{"limits", limitsText(&s.Limits)},
		{"transactional", fmt.Sprint(s.Transactional)},
		{"grants", strings.Join(s.Grants, ", ")},
		{"imports", strings.Join(s.Imports, ", ")},
		{"imported by", strings.Join(s.ImportedBy, ", ")},
		{"created", clock(s.CreatedAt)},
		{"updated", clock(s.UpdatedAt)},
	}}
}

func (c *cli) scriptUsage(ctx context.Context, name string) error {
	usage, err := call[api.ScriptUsage](ctx, c, http.MethodGet, c.scripts(name, "usage"), nil)
	if err != nil {
		return c.absentScript(err, name)
	}
	return c.print(usage, func() grid {
		g := grid{head: []string{"DAY", "RUNS", "MEAN", "ENDED"}}
		for _, d := range usage.Days {
			ended := make([]string, 0, len(d.Outcomes))
			for _, outcome := range slices.Sorted(maps.Keys(d.Outcomes)) {
				ended = append(ended, fmt.Sprintf("%d %s", d.Outcomes[outcome], outcome))
			}
			g.rows = append(g.rows, []string{
				d.Day, fmt.Sprint(d.Attempts), milliseconds(d.DurationMS / float64(d.Attempts)), strings.Join(ended, ", "),
			})
		}
		return g
	})
}

func (c *cli) listVersions(ctx context.Context, name string) error {
	versions, err := list[api.Version](ctx, c, c.scripts(name, "versions"), nil, 0)
	if err != nil {
		return c.absentScript(err, name)
	}
	return printList(c, versions, []string{"VERSION", "CREATED", "SDK", "HASH", "IMPORTS", "NOTE"}, func(v *api.Version) []string {
		return []string{fmt.Sprint(v.Number), clock(v.CreatedAt), v.SDKVersion, v.Hash[:min(12, len(v.Hash))], strings.Join(v.Imports, ", "), v.Note}
	})
}
