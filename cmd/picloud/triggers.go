package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

func (c *cli) triggersCommand() *cobra.Command {
	var route string
	var forRoute policyFlags
	forHTTP := &cobra.Command{
		Use: "http NAME --route ID|'METHOD /path'", Short: "Say how the requests of a route are delivered that nobody waits for",
		Args: cobra.ExactArgs(1),
		Example: `  picloud triggers http orders --route 'POST /orders' --ordering-key '{body.customer}' --attempts 10
  picloud triggers http search --route 'POST /reindex' --policy '{"debounce": {"wait": "30s"}}'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			policy, err := forRoute.read(c)
			if err != nil {
				return err
			}
			id, err := c.routeID(cmd.Context(), route)
			if err != nil {
				return err
			}
			body := api.NewTrigger{Name: args[0], Kind: "http", RouteID: id}
			if policy != nil {
				body.Policy = *policy
			}
			t, err := call[api.Trigger](cmd.Context(), c, http.MethodPost, c.triggers(), body)
			return c.printTrigger(t, absentApp(err, c.app))
		},
	}
	forHTTP.Flags().StringVar(&route, "route", "", "`id` of the route, or its method and path")
	_ = forHTTP.MarkFlagRequired("route") // it exists
	forRoute.add(forHTTP)

	var script, sink string
	var filter api.TriggerFilter
	deadLetter := &cobra.Command{
		Use: "dead-letter NAME --script NAME|--sink NAME", Short: "Have a script handle what other scripts failed at for good", Args: cobra.ExactArgs(1),
		Long: `Has a script run for each dead letter. Its body is JSON: what failed, why, and the data of the event. It is tried once; if it
fails the dead letter stays open.`,
		Example: "  picloud triggers dead-letter alarm --script tell-me --of order,mail --reason exhausted",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := call[api.Trigger](cmd.Context(), c, http.MethodPost, c.triggers(), api.NewTrigger{
				Name: args[0], Kind: "dead_letter", Script: script, Sink: sink, Filter: filter,
			})
			return c.printTrigger(t, absentApp(err, c.app))
		},
	}
	deadLetter.Flags().StringVar(&script, "script", "", "`name` of the script that handles them")
	deadLetter.Flags().StringSliceVar(&filter.Scripts, "of", nil, "`names` of the scripts that failed (default: all)")
	deadLetter.Flags().StringSliceVar(&filter.Reasons, "reason", nil, "`words` for why, such as exhausted, fatal, poison (default: all)")
	deadLetter.Flags().StringVar(&filter.When, "when", "", "an `expression` that has to be true of it, such as 'data.attempts > 3'")
	deadLetter.Flags().StringVar(&sink, "sink", "", "or `name` of the sink that they go to")
	deadLetter.MarkFlagsOneRequired("script", "sink")
	deadLetter.MarkFlagsMutuallyExclusive("script", "sink")

	enable := func(word, short string, enabled bool) *cobra.Command {
		return &cobra.Command{
			Use: word + " NAME", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				t, err := call[api.Trigger](cmd.Context(), c, http.MethodPatch, c.triggers(args[0]), api.TriggerChange{Enabled: &enabled})
				return c.printTrigger(t, c.absentTrigger(err, args[0]))
			},
		}
	}
	return c.inApp(group("triggers", "Say which events go to which script, and how", "",
		&cobra.Command{
			Use: "ls", Short: "List the triggers of the app", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				triggers, err := list[api.Trigger](cmd.Context(), c, c.triggers(), nil, 0)
				if err != nil {
					return absentApp(err, c.app)
				}
				return printList(c, triggers, []string{"NAME", "KIND", "TARGET", "ENABLED", "PAUSED", "POLICY"}, func(t *api.Trigger) []string {
					return []string{t.Name, t.Kind, first(t.Script, t.Sink), yesNo(t.Enabled, "enabled"), yesNo(t.Paused, "paused"), policyText(&t.Policy)}
				})
			},
		},
		&cobra.Command{
			Use: "show NAME", Short: "Show a trigger", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				t, err := call[api.Trigger](cmd.Context(), c, http.MethodGet, c.triggers(args[0]), nil)
				return c.printTrigger(t, c.absentTrigger(err, args[0]))
			},
		},
		c.createTriggerCommand(), forHTTP, deadLetter, c.nextCommand(), c.fireCommand(),
		enable("enable", "Have a trigger take events again", true), enable("disable", "Have a trigger take no more events; requests of its route are then delivered as the script says", false),
		c.pauseCommand("NAME", "pause", "Have the trigger start nothing", c.triggers, c.absentTrigger),
		c.pauseCommand("NAME", "resume", "End a pause of the trigger", c.triggers, c.absentTrigger),
		&cobra.Command{
			Use: "delete NAME", Aliases: []string{"rm"}, Short: "Delete a trigger", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.absentTrigger(c.remove(cmd.Context(), c.triggers(args[0])), args[0])
			},
		},
	))
}

// routeID finds the route that an id or a text names.
func (c *cli) routeID(ctx context.Context, named string) (uuid.UUID, error) {
	if id, err := uuid.Parse(named); err == nil {
		return id, nil
	}
	method, pattern := splitRoute(named)
	routes, err := list[api.Route](ctx, c, c.routes(), nil, 0)
	if err != nil {
		return uuid.Nil, absentApp(err, c.app)
	}
	var found []uuid.UUID
	for _, r := range routes {
		if r.Pattern == pattern && strings.EqualFold(r.Method, first(method, "ANY")) {
			if id, err := uuid.Parse(r.ID); err == nil {
				found = append(found, id)
			}
		}
	}
	see := "routes ls --app " + c.app
	switch len(found) {
	case 0:
		return uuid.Nil, fmt.Errorf("there is no route %q in app %q: see `picloud %s`", named, c.app, see)
	case 1:
		return found[0], nil
	}
	return uuid.Nil, fmt.Errorf("%d routes are %q, on different hosts: name one by its id, see `picloud %s`", len(found), named, see)
}

func (c *cli) triggers(more ...string) string {
	return client.Path(append([]string{"apps", c.app, "triggers"}, more...)...)
}

func (c *cli) absentTrigger(err error, name string) error {
	return absent(err, fmt.Sprintf("trigger %q in app %q", name, c.app), "triggers ls --app "+c.app)
}

func (c *cli) printTrigger(t api.Trigger, err error) error {
	if err != nil {
		return err
	}
	return c.print(t, func() grid {
		g := grid{rows: [][]string{
			{"name", t.Name},
			{"kind", t.Kind},
			{map[bool]string{true: "script", false: "sink"}[t.Sink == ""], first(t.Script, t.Sink)},
			{"enabled", yesNo(t.Enabled, "yes")},
			{"paused", yesNo(t.Paused, "yes")},
		}}
		if t.RouteID != "" {
			g.rows = append(g.rows, []string{"route", t.RouteID})
		}
		for _, line := range [][]string{
			{"collection", t.Filter.Collection},
			{"ops", strings.Join(t.Filter.Ops, ", ")},
			{"topic", t.Filter.Topic},
			{"events", strings.Join(t.Filter.Events, ", ")},
			{"address", t.Path},
			{"signature", t.Filter.Signature},
			{"secret", t.Filter.Secret},
			{"source", t.Filter.Source},
			{"type", t.Filter.Type},
			{"to", t.Filter.To},
			{"schedule", t.Filter.Schedule},
			{"time zone", t.Filter.TimeZone},
			{"when", t.Filter.When},
		} {
			if line[1] != "" {
				g.rows = append(g.rows, line)
			}
		}
		if len(t.Filter.Scripts) > 0 {
			g.rows = append(g.rows, []string{"of scripts", strings.Join(t.Filter.Scripts, ", ")})
		}
		if len(t.Filter.Reasons) > 0 {
			g.rows = append(g.rows, []string{"of reasons", strings.Join(t.Filter.Reasons, ", ")})
		}
		return grid{rows: append(g.rows, []string{"policy", policyText(&t.Policy)}, []string{"id", t.ID})}
	})
}
