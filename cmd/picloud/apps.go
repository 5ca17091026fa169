package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

func appPath(more ...string) string { return client.Path(append([]string{"apps"}, more...)...) }

func (c *cli) appsCommand() *cobra.Command {
	var name string
	create := &cobra.Command{
		Use: "create SLUG", Short: "Make an app", Args: cobra.ExactArgs(1),
		Long:    "Makes an app. Requests reach it once it has a host: see `picloud domains add`.",
		Example: "  picloud apps create shop --name 'The shop'",
		RunE: func(cmd *cobra.Command, args []string) error {
			app, err := call[api.App](cmd.Context(), c, http.MethodPost, client.Path("apps"), api.NewApp{Slug: args[0], Name: name})
			if err != nil {
				return err
			}
			return c.print(app, func() grid { return appGrid(&app) })
		},
	}
	create.Flags().StringVar(&name, "name", "", "what people call it")

	var yes bool
	remove := &cobra.Command{
		Use: "delete SLUG", Aliases: []string{"rm"}, Short: "Delete an app with everything in it", Args: cobra.ExactArgs(1),
		Example: "  picloud apps delete shop --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return fmt.Errorf("this deletes %s with all its scripts, routes and records: say --yes if you mean it", args[0])
			}
			return absentApp(c.remove(cmd.Context(), client.Path("apps", args[0])), args[0])
		},
	}
	remove.Flags().BoolVar(&yes, "yes", false, "really delete it")

	return group("apps", "List, make and delete apps", "",
		&cobra.Command{
			Use: "ls", Short: "List the apps", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				apps, err := list[api.App](cmd.Context(), c, client.Path("apps"), nil, 0)
				if err != nil {
					return err
				}
				return printList(c, apps, []string{"SLUG", "NAME", "RELEASE", "CREATED"}, func(a *api.App) []string {
					return []string{a.Slug, a.Name, number(a.Release), clock(a.CreatedAt)}
				})
			},
		},
		create,
		c.pauseCommand("SLUG", "pause", "Have the app start nothing", appPath, absentApp), c.pauseCommand("SLUG", "resume", "End a pause of the app", appPath, absentApp),
		&cobra.Command{
			Use: "show SLUG", Short: "Show an app", Args: cobra.ExactArgs(1), Example: "  picloud apps show shop",
			RunE: func(cmd *cobra.Command, args []string) error { return c.showApp(cmd.Context(), args[0]) },
		},
		&cobra.Command{
			Use: "weigh SLUG WEIGHT", Short: "Set the app's share of the slots while others want some too: 1 to 100",
			Args:    cobra.ExactArgs(2),
			Example: "  picloud apps weigh shop 4",
			RunE: func(cmd *cobra.Command, args []string) error {
				weight, err := strconv.Atoi(args[1])
				if err != nil {
					return fmt.Errorf("a weight is a number from 1 to 100, not %q", args[1])
				}
				app, err := call[api.App](cmd.Context(), c, http.MethodPut, client.Path("app-weights", args[0]), api.AppWeight{Weight: weight})
				if err != nil {
					return absentApp(err, args[0])
				}
				return c.print(app, func() grid { return appGrid(&app) })
			},
		},
		c.appLimitsCommand(),
		remove,
	)
}

func (c *cli) showApp(ctx context.Context, slug string) error {
	app, err := call[api.App](ctx, c, http.MethodGet, client.Path("apps", slug), nil)
	if err != nil {
		return absentApp(err, slug)
	}
	return c.print(app, func() grid { return appGrid(&app) })
}

func appGrid(a *api.App) grid {
	return grid{rows: [][]string{
		{"id", a.ID},
		{"slug", a.Slug},
		{"name", a.Name},
		{"description", a.Description},
		{"release", number(a.Release)},
		{"weight", fmt.Sprint(a.Weight)},
		{"limits", limitsText(&a.Limits)},
		{"created", clock(a.CreatedAt)},
		{"updated", clock(a.UpdatedAt)},
	}}
}

func absentApp(err error, slug string) error {
	return absent(err, fmt.Sprintf("app %q", slug), "apps ls")
}

func (c *cli) domainsCommand() *cobra.Command {
	return c.inApp(group("domains", "Say which hosts lead to an app",
		"  picloud domains add shop.example.com --app shop\n  picloud domains add '*.shop.example.com' --app shop",
		&cobra.Command{
			Use: "ls", Short: "List the hosts of the app", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				domains, err := list[api.Domain](cmd.Context(), c, client.Path("apps", c.app, "domains"), nil, 0)
				if err != nil {
					return absentApp(err, c.app)
				}
				return printList(c, domains, []string{"HOST", "SINCE"}, func(d *api.Domain) []string {
					return []string{d.Host, clock(d.CreatedAt)}
				})
			},
		},
		&cobra.Command{
			Use: "add HOST", Short: "Claim a host: a name, an address, *.suffix, or * for all that nobody claims",
			Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				path := client.Path("apps", c.app, "domains")
				d, err := call[api.Domain](cmd.Context(), c, http.MethodPost, path, api.NewDomain{Host: args[0]})
				if err != nil {
					return absentApp(err, c.app)
				}
				return c.print(d, func() grid { return grid{rows: [][]string{{"host", d.Host}, {"app", c.app}}} })
			},
		},
		&cobra.Command{
			Use: "delete HOST", Aliases: []string{"rm"}, Short: "Give a host up", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				err := c.remove(cmd.Context(), client.Path("apps", c.app, "domains", args[0]))
				return absent(err, fmt.Sprintf("host %q of app %q", args[0], c.app), "domains ls --app "+c.app)
			},
		},
	))
}
