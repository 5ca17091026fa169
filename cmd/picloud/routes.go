package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

func (c *cli) routesCommand() *cobra.Command {
	var script, host, wait string
	var async bool
	add := &cobra.Command{
		Use: "add 'METHOD /path'", Short: "Route requests to a script", Args: cobra.ExactArgs(1),
		Example: "  picloud routes add 'GET /users/{id}' --script user",
		RunE: func(cmd *cobra.Command, args []string) error {
			method, pattern := splitRoute(args[0])
			r, err := call[api.Route](cmd.Context(), c, http.MethodPost, c.routes(), api.NewRoute{
				Method: method, Pattern: pattern, Host: host, Script: script, Mode: mode(async), Wait: wait,
			})
			if err != nil {
				return absentApp(err, c.app)
			}
			return c.print(r, func() grid {
				return grid{rows: [][]string{{"id", r.ID}, {"route", routeText(r)}, {"script", r.Script}}}
			})
		},
	}
	add.Flags().StringVar(&script, "script", "", "`name` of the script")
	_ = add.MarkFlagRequired("script") // it exists
	add.Flags().BoolVar(&async, "async", false, "answer 202 at once and run the script later, again if it fails")

	add.Flags().StringVar(&wait, "wait", "", "`time` after which a caller has a 202 with a result URL while the script runs on")

	check := &cobra.Command{
		Use: "check 'METHOD /path'", Short: "Tell whether there is room for a route", Args: cobra.ExactArgs(1),
		Long:    "Tells whether a route could be added. The exit status is 1 if it could not.",
		Example: "  picloud routes check 'GET /users/{name}'",
		RunE:    func(cmd *cobra.Command, args []string) error { return c.checkRoute(cmd.Context(), args[0], host) },
	}
	match := &cobra.Command{
		Use: "match 'METHOD /path'", Short: "Tell where a request would go", Args: cobra.ExactArgs(1),
		Long:    "Tells which script a request would reach. The exit status is 1 if it is none.",
		Example: "  picloud routes match 'GET /users/42'",
		RunE:    func(cmd *cobra.Command, args []string) error { return c.matchRoute(cmd.Context(), args[0], host) },
	}
	for _, command := range []*cobra.Command{add, check, match} {
		command.Flags().StringVar(&host, "host", "", "`host` of the route or request (default: every host of the app)")
	}
	return c.inApp(group("routes", "Say which requests lead to which script", "",
		&cobra.Command{
			Use: "ls", Short: "List the routes of the app", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				routes, err := list[api.Route](cmd.Context(), c, c.routes(), nil, 0)
				if err != nil {
					return absentApp(err, c.app)
				}
				return printList(c, routes, []string{"METHOD", "PATH", "HOST", "SCRIPT", "MODE", "ID"}, func(r *api.Route) []string {
					return []string{r.Method, r.Pattern, first(r.Host, "*"), r.Script, r.Mode, r.ID}
				})
			},
		},
		add, check, match,
		&cobra.Command{
			Use: "delete ID|'METHOD /path'", Aliases: []string{"rm"}, Short: "Delete a route", Args: cobra.ExactArgs(1),
			Example: "  picloud routes delete 'GET /users/{id}'",
			RunE:    func(cmd *cobra.Command, args []string) error { return c.removeRoute(cmd.Context(), args[0]) },
		},
	))
}

func (c *cli) routes(more ...string) string {
	return client.Path(append([]string{"apps", c.app, "routes"}, more...)...)
}

func (c *cli) checkRoute(ctx context.Context, text, host string) error {
	method, pattern := splitRoute(text)
	verdict, err := call[api.RouteVerdict](ctx, c, http.MethodPost, c.routes("check"), api.RouteCheck{
		Method: method, Host: host, Pattern: pattern,
	})
	if err != nil {
		return absentApp(err, c.app)
	}
	if err := c.print(verdict, func() grid {
		if verdict.OK {
			return grid{rows: [][]string{{"there is room for it"}}}
		}
		return grid{rows: [][]string{{verdict.Reason}, {"in the way: " + verdict.Conflict}}}
	}); err != nil || verdict.OK {
		return err
	}
	return errReported
}

func (c *cli) matchRoute(ctx context.Context, text, host string) error {
	method, path := splitRoute(text)
	found, err := call[api.MatchAnswer](ctx, c, http.MethodPost, c.routes("match"), api.MatchQuestion{
		Method: first(method, http.MethodGet), Host: host, Path: path,
	})
	if err != nil {
		return absentApp(err, c.app)
	}
	if err := c.print(found, func() grid { return matchGrid(&found) }); err != nil || found.Matched {
		return err
	}
	return errReported
}

func matchGrid(m *api.MatchAnswer) grid {
	switch {
	case m.Matched:
		g := grid{rows: [][]string{{"script", m.Script}, {"route", m.Pattern}, {"mode", m.Mode}}}
		for _, p := range m.Params {
			g.rows = append(g.rows, []string{"{" + p.Name + "}", p.Value})
		}
		if m.Rest != "" {
			g.rows = append(g.rows, []string{"rest", m.Rest})
		}
		return g
	case len(m.Allow) > 0:
		return grid{rows: [][]string{{"405: the path has " + strings.Join(m.Allow, ", ")}}}
	}
	return grid{rows: [][]string{{"404: no route"}}}
}

// removeRoute deletes the route that an id or a text names.
func (c *cli) removeRoute(ctx context.Context, named string) error {
	id, err := c.routeID(ctx, named)
	if err != nil {
		return err
	}
	err = c.remove(ctx, c.routes(id.String()))
	return absent(err, fmt.Sprintf("route %s in app %q", named, c.app), "routes ls --app "+c.app)
}
