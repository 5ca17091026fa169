package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

func (c *cli) releasesCommand() *cobra.Command {
	var limit int
	return c.inApp(group("releases", "See the states an app went through, and go back", "",
		recent(&cobra.Command{
			Use: "ls", Short: "List the releases of the app, newest first", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				releases, err := list[api.Release](cmd.Context(), c, client.Path("apps", c.app, "releases"), nil, limit)
				if err != nil {
					return absentApp(err, c.app)
				}
				return printList(c, releases, []string{"RELEASE", "ACTION", "CREATED"}, func(r *api.Release) []string {
					return []string{fmt.Sprint(r.Number), r.Action, clock(r.CreatedAt)}
				})
			},
		}, &limit),
		&cobra.Command{
			Use: "show NUMBER", Short: "Show a release: what of each script runs, and all routes", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.printRelease(cmd.Context(), http.MethodGet, args[0])
			},
		},
		&cobra.Command{
			Use: "activate NUMBER", Short: "Bring the app back to a release, which becomes a new one", Args: cobra.ExactArgs(1),
			Example: "  picloud releases activate 3 --app shop",
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.printRelease(cmd.Context(), http.MethodPost, args[0], "activate")
			},
		},
	))
}

func (c *cli) printRelease(ctx context.Context, method, number string, more ...string) error {
	path := client.Path(append([]string{"apps", c.app, "releases", number}, more...)...)
	r, err := call[api.ReleaseWithManifest](ctx, c, method, path, nil)
	if err != nil {
		return absent(err, fmt.Sprintf("release %s of app %q", number, c.app), "releases ls --app "+c.app)
	}
	return c.print(r, func() grid { return releaseGrid(&r) })
}

func releaseGrid(r *api.ReleaseWithManifest) grid {
	g := grid{rows: [][]string{{"release", fmt.Sprint(r.Number)}, {"action", r.Action}, {"created", clock(r.CreatedAt)}}}
	names := map[string]string{}
	for _, s := range r.Manifest.Scripts {
		names[s.ID] = s.Name
		g.rows = append(g.rows, []string{"script", fmt.Sprintf("%s version %s", s.Name, number(s.Version))})
	}
	for _, route := range r.Manifest.Routes {
		text := routeText(api.Route{Method: route.Method, Host: route.Host, Pattern: route.Pattern, Mode: route.Mode})
		g.rows = append(g.rows, []string{"route", text + " to " + names[route.Script]})
	}
	return g
}
