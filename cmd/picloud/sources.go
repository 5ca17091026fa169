package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

func (c *cli) sourcesCommand() *cobra.Command {
	var kind, config, changed string
	var disabled bool
	create := &cobra.Command{
		Use: "create NAME --kind KIND --config JSON", Short: "Make a source, which brings events in", Args: cobra.ExactArgs(1),
		Long: `Makes a source. Kind smtp listens for e-mail; a plugin brings other kinds. Keys are secrets of the app, which a configuration refers
to: {"secret": "NAME"}. The source checks the configuration. It runs on one server, and moves when that ends. A trigger of kind source,
or email, has a script run for its events.`,
		Example: `  picloud sources create post --kind smtp --config '{"listen": "0.0.0.0:2525", "domains": ["shop.example.com"]}'
  picloud triggers create post --kind email --script post --to '*@shop.example.com'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := c.sourceConfig(config)
			if err != nil {
				return err
			}
			enabled := !disabled
			body := api.NewSource{Name: args[0], Kind: kind, Config: text, Enabled: &enabled}
			f, err := call[api.Source](cmd.Context(), c, http.MethodPost, c.sources(), body)
			return c.printSource(f, absentApp(err, c.app))
		},
	}
	create.Flags().StringVar(&kind, "kind", "", "`kind` of source: smtp, or that of an installed plugin")
	create.Flags().StringVar(&config, "config", "", "`JSON` that the kind takes, @file, or @- for standard input")
	create.Flags().BoolVar(&disabled, "disabled", false, "do not run it yet")
	_ = create.MarkFlagRequired("kind")   // it exists
	_ = create.MarkFlagRequired("config") // the same

	update := &cobra.Command{
		Use: "update NAME --config JSON", Short: "Change the configuration of a source", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := c.sourceConfig(changed)
			if err != nil {
				return err
			}
			f, err := call[api.Source](cmd.Context(), c, http.MethodPatch, c.sources(args[0]), api.SourceChange{Config: text})
			return c.printSource(f, c.absentSource(err, args[0]))
		},
	}
	update.Flags().StringVar(&changed, "config", "", "`JSON` that the kind takes, @file, or @- for standard input")
	_ = update.MarkFlagRequired("config") // it exists

	enable := func(word, short string, enabled bool) *cobra.Command {
		return &cobra.Command{
			Use: word + " NAME", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				f, err := call[api.Source](cmd.Context(), c, http.MethodPatch, c.sources(args[0]), api.SourceChange{Enabled: &enabled})
				return c.printSource(f, c.absentSource(err, args[0]))
			},
		}
	}
	return c.inApp(group("sources", "Have events come in", "",
		&cobra.Command{
			Use: "ls", Short: "List the sources of the app", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				sources, err := list[api.Source](cmd.Context(), c, c.sources(), nil, 0)
				if err != nil {
					return absentApp(err, c.app)
				}
				return printList(c, sources, []string{"NAME", "KIND", "STATE", "NODE", "EVENTS", "LAST", "ERROR"}, func(f *api.Source) []string {
					return []string{f.Name, f.Kind, sourceState(f), f.Node, fmt.Sprint(f.Events), sourceTime(f.LastEventAt), f.Error}
				})
			},
		},
		&cobra.Command{
			Use: "show NAME", Short: "Show a source, and how it stands", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				f, err := call[api.Source](cmd.Context(), c, http.MethodGet, c.sources(args[0]), nil)
				return c.printSource(f, c.absentSource(err, args[0]))
			},
		},
		create, update,
		enable("enable", "Have a source run", true),
		enable("disable", "Stop a source, which keeps where it was", false),
		&cobra.Command{
			Use: "delete NAME", Aliases: []string{"rm"}, Short: "Delete a source", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.absentSource(c.remove(cmd.Context(), c.sources(args[0])), args[0])
			},
		},
	))
}

func (c *cli) sourceConfig(flag string) (json.RawMessage, error) {
	text, err := c.readBody(flag)
	if err == nil && !json.Valid(text) {
		err = errors.New("--config is no JSON")
	}
	return text, err
}

func sourceState(f *api.Source) string {
	if !f.Enabled {
		return "disabled"
	}
	return f.State
}

func sourceTime(t *time.Time) string {
	if t == nil {
		return ""
	}
	return clock(*t)
}

func (c *cli) sources(more ...string) string {
	return client.Path(append([]string{"apps", c.app, "sources"}, more...)...)
}

func (c *cli) absentSource(err error, name string) error {
	return absent(err, fmt.Sprintf("source %q in app %q", name, c.app), "sources ls --app "+c.app)
}

func (c *cli) printSource(f api.Source, err error) error {
	if err != nil {
		return err
	}
	return c.print(f, func() grid {
		return grid{rows: [][]string{
			{"name", f.Name},
			{"kind", f.Kind},
			{"config", string(f.Config)},
			{"state", sourceState(&f)},
			{"node", f.Node},
			{"events", fmt.Sprint(f.Events)},
			{"last event", sourceTime(f.LastEventAt)},
			{"lag", (time.Duration(f.LagMS) * time.Millisecond).String()},
			{"failed", sourceTime(f.FailedAt)},
			{"error", f.Error},
			{"id", f.ID},
		}}
	})
}
