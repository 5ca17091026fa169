package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

func (c *cli) deadLettersCommand() *cobra.Command {
	var all bool
	var limit int
	ls := recent(&cobra.Command{
		Use: "ls", Short: "List dead letters, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if !all {
				query.Set("unresolved", "true")
			}
			letters, err := list[api.DeadLetter](cmd.Context(), c, c.deadLetters(), query, limit)
			if err != nil {
				return absentApp(err, c.app)
			}
			return printList(c, letters, []string{"ID", "SCRIPT", "REASON", "ATTEMPTS", "CREATED", "RESOLUTION", "ERROR"},
				func(d *api.DeadLetter) []string {
					return []string{
						d.ID, d.Script, d.Reason, attempts(d.Attempts, d.MaxAttempts), clock(d.CreatedAt), first(d.Resolution, "-"), d.Error,
					}
				})
		},
	}, &limit)
	ls.Flags().BoolVar(&all, "all", false, "also those that are resolved")

	var as string
	resolve := &cobra.Command{
		Use: "resolve ID", Short: "Close a dead letter without putting it back", Args: cobra.ExactArgs(1),
		Example: "  picloud dead-letters resolve 0192d1a4-7c1e-7b7e-9d2b-3f6a1c0e5b11",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := c.deadLetters(args[0], "resolve")
			d, err := call[api.DeadLetterWithBody](cmd.Context(), c, http.MethodPost, path, api.Resolution{Resolution: as})
			if err != nil {
				return c.absentDeadLetter(err, args[0])
			}
			return c.print(d, func() grid { return deadLetterGrid(&d) })
		},
	}
	resolve.Flags().StringVar(&as, "as", "ignored", "`word` for how: ignored or handled_by_script")

	return c.inApp(group("dead-letters", "See what failed for good, and put it back", "", ls,
		&cobra.Command{
			Use: "show ID", Short: "Show a dead letter with the data of its event", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return c.showDeadLetter(cmd.Context(), args[0]) },
		},
		&cobra.Command{
			Use: "replay ID", Short: "Put a dead letter back, with all its attempts", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				path := c.deadLetters(args[0], "replay")
				r, err := call[api.Replayed](cmd.Context(), c, http.MethodPost, path, nil)
				if err != nil {
					return c.absentDeadLetter(err, args[0])
				}
				return c.print(r, func() grid { return grid{rows: [][]string{{"execution", r.ExecutionID}}} })
			},
		},
		resolve,
	))
}

func (c *cli) deadLetters(more ...string) string {
	return client.Path(append([]string{"apps", c.app, "dead-letters"}, more...)...)
}

func (c *cli) absentDeadLetter(err error, id string) error {
	return absent(err, fmt.Sprintf("dead letter %s in app %q", id, c.app), "dead-letters ls --all --app "+c.app)
}

func (c *cli) showDeadLetter(ctx context.Context, id string) error {
	d, err := call[api.DeadLetterWithBody](ctx, c, http.MethodGet, c.deadLetters(id), nil)
	if err != nil {
		return c.absentDeadLetter(err, id)
	}
	return c.print(d, func() grid { return deadLetterGrid(&d) })
}

func deadLetterGrid(d *api.DeadLetterWithBody) grid {
	g := grid{rows: [][]string{
		{"id", d.ID},
		{"script", d.Script},
		{"kind", d.Kind},
		{"reason", d.Reason},
		{"error", d.Error},
		{"fault", d.Fault},
		{"attempts", attempts(d.Attempts, d.MaxAttempts)},
		{"accepted", clock(d.AcceptedAt)},
		{"created", clock(d.CreatedAt)},
	}}
	if d.Resolution != "" {
		g.rows = append(g.rows, []string{"resolution", d.Resolution}, []string{"resolved", clock(d.ResolvedAt)})
	}
	if d.ReplayedAs != "" {
		g.rows = append(g.rows, []string{"replayed as", d.ReplayedAs})
	}
	body := d.Body
	if len(d.BodyBase64) > 0 {
		body = fmt.Sprintf("%d bytes that are not text", len(d.BodyBase64))
	}
	return grid{rows: append(g.rows, []string{"body", body})}
}
