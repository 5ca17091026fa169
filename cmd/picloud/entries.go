package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

// laneFlags name a script, queue or trigger.
type laneFlags struct{ script, queue, trigger string }

func (f *laneFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&f.script, "script", "", "only of the script with this `name`: calls, and requests without a trigger")
	flags.StringVar(&f.queue, "queue", "", "only messages of the queue with this `name`")
	flags.StringVar(&f.trigger, "trigger", "", "only those of the trigger with this `name`")
	command.MarkFlagsMutuallyExclusive("script", "queue", "trigger")
}

func (c *cli) entriesCommand() *cobra.Command {
	var shown, cancelled laneFlags
	var state string
	var limit int
	ls := recent(&cobra.Command{
		Use: "ls", Short: "List what waits and what runs, oldest first", Args: cobra.NoArgs,
		Example: "  picloud entries ls --queue mail --state blocked",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			for name, value := range map[string]string{
				"state": state, "script": shown.script, "queue": shown.queue, "trigger": shown.trigger,
			} {
				if value != "" {
					query.Set(name, value)
				}
			}
			entries, err := list[api.Entry](cmd.Context(), c, c.entries(), query, limit)
			if err != nil {
				return absentApp(err, c.app)
			}
			return printList(c, entries, []string{"ID", "KIND", "STATE", "ATTEMPT", "DUE", "LAST ERROR"}, func(e *api.Entry) []string {
				return []string{e.ID, e.Kind, e.State, attempts(e.Attempt, e.MaxAttempts), clock(e.RunAt), e.LastError}
			})
		},
	}, &limit)
	shown.add(ls)
	ls.Flags().StringVar(&state, "state", "", "only those that are scheduled, ready, running or blocked")

	cancelAll := &cobra.Command{
		Use: "cancel-all", Short: "Cancel everything of a queue, trigger or script", Args: cobra.NoArgs,
		Example: "  picloud entries cancel-all --queue mail",
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.cancelAll(cmd.Context(), &cancelled) },
	}
	cancelled.add(cancelAll)
	cancelAll.MarkFlagsOneRequired("script", "queue", "trigger")

	return c.inApp(group("entries", "See what waits, why, and cancel it", "", ls,
		&cobra.Command{
			Use: "show ID", Short: "Tell where an entry stands, or how it ended", Args: cobra.ExactArgs(1),
			Long: "Takes the id that a 202 answer gave, and tells whether it waits, runs, or how it ended.",
			RunE: func(cmd *cobra.Command, args []string) error { return c.showEntry(cmd.Context(), args[0]) },
		},
		&cobra.Command{
			Use: "explain ID", Short: "Tell why an entry waits and what would let it go on", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return c.explainEntry(cmd.Context(), args[0]) },
		},
		&cobra.Command{
			Use: "cancel ID", Short: "Cancel an entry: at once while it waits, soon if it runs", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				r, err := call[api.CancelledEntry](cmd.Context(), c, http.MethodPost, c.entries(args[0], "cancel"), nil)
				if err != nil {
					return c.absentEntry(err, args[0])
				}
				return c.print(r, func() grid {
					if r.Ended {
						return grid{rows: [][]string{{"cancelled"}}}
					}
					return grid{rows: [][]string{{"it runs, and is stopped within a second or two"}}}
				})
			},
		},
		cancelAll,
	))
}

func (c *cli) entries(more ...string) string {
	return client.Path(append([]string{"apps", c.app, "entries"}, more...)...)
}

// absentEntry explains that no entry waits or runs under an id.
func (c *cli) absentEntry(err error, id string) error {
	return absent(err, fmt.Sprintf("entry %s in app %q that has not ended", id, c.app), "entries show "+id+" --app "+c.app)
}

func (c *cli) explainEntry(ctx context.Context, id string) error {
	x, err := call[api.Explanation](ctx, c, http.MethodGet, c.entries(id, "explain"), nil)
	if err != nil {
		return c.absentEntry(err, id)
	}
	return c.print(x, func() grid {
		g := grid{rows: [][]string{{"state", x.State}}}
		for _, r := range x.Reasons {
			g.rows = append(g.rows, []string{r.Code, r.Message}, []string{"", "freed by: " + r.Frees})
			if len(r.BlockedBy) > 0 {
				g.rows = append(g.rows, []string{"", "blocked by: " + strings.Join(r.BlockedBy, ", ")})
			}
			if !r.Until.IsZero() {
				g.rows = append(g.rows, []string{"", "until: " + clock(r.Until)})
			}
		}
		if !x.ExpiresAt.IsZero() {
			g.rows = append(g.rows, []string{"expires", clock(x.ExpiresAt) + ", if it has not started by then"})
		}
		return g
	})
}

// cancelAll asks until nothing is left to cancel.
func (c *cli) cancelAll(ctx context.Context, f *laneFlags) error {
	total := api.CancelledLane{More: true}
	for total.More {
		r, err := call[api.CancelledLane](ctx, c, http.MethodPost, c.entries("cancel"),
			api.LaneCancel{Script: f.script, Queue: f.queue, Trigger: f.trigger})
		if err != nil {
			return absentApp(err, c.app)
		}
		total.Cancelled += r.Cancelled
		total.More = r.More
	}
	return c.print(total, func() grid { return grid{rows: [][]string{{"cancelled", fmt.Sprint(total.Cancelled)}}} })
}

func (c *cli) showEntry(ctx context.Context, id string) error {
	e, err := call[api.Entry](ctx, c, http.MethodGet, c.entries(id), nil)
	if err != nil {
		return absent(err, fmt.Sprintf("entry %s in app %q", id, c.app), "executions ls --app "+c.app)
	}
	return c.print(e, func() grid {
		g := grid{rows: [][]string{
			{"id", e.ID},
			{"kind", e.Kind},
			{"state", e.State},
			{"attempt", attempts(e.Attempt, e.MaxAttempts)},
			{"accepted", clock(e.AcceptedAt)},
		}}
		if !e.RunAt.IsZero() {
			g.rows = append(g.rows, []string{"due", clock(e.RunAt)})
		}
		problem := e.LastError
		if e.Last != nil {
			g.rows = append(g.rows, []string{"finished", clock(e.Last.FinishedAt)}, []string{"status", number(e.Last.Status)})
			if problem = e.Last.Error; e.Last.Reason != "" {
				g.rows = append(g.rows, []string{"reason", e.Last.Reason})
			}
		}
		if problem != "" {
			g.rows = append(g.rows, []string{"error", problem})
		}
		return g
	})
}

// attempts is "2 of 5", or only "2" where the most is not known any more.
func attempts(n, most int) string {
	if most == 0 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d of %d", n, most)
}
