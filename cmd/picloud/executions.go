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

// recent gives a command the flag for how much of a list of the newest it shows.
func recent(command *cobra.Command, limit *int) *cobra.Command {
	command.Flags().IntVar(limit, "limit", 50, "how many to show; 0 is all of them")
	return command
}

func (c *cli) executionsCommand() *cobra.Command {
	var script, outcome string
	var limit int
	ls := recent(&cobra.Command{
		Use: "ls", Short: "List runs, newest first", Args: cobra.NoArgs,
		Example: "  picloud executions ls --script hello --outcome failed",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			if script != "" {
				query.Set("script", script)
			}
			if outcome != "" {
				query.Set("outcome", outcome)
			}
			runs, err := list[api.Execution](cmd.Context(), c, client.Path("apps", c.app, "executions"), query, limit)
			if err != nil {
				return absentApp(err, c.app)
			}
			return printList(c, runs, []string{"ID", "ATTEMPT", "SCRIPT", "OUTCOME", "STATUS", "DURATION", "FINISHED", "ERROR"},
				func(e *api.Execution) []string {
					return []string{
						e.ID, fmt.Sprint(e.Attempt), first(e.Script, e.Sink), e.Outcome, number(e.Status), milliseconds(e.DurationMS),
						clock(e.FinishedAt), e.Error,
					}
				})
		},
	}, &limit)
	ls.Flags().StringVar(&script, "script", "", "only of the script with this `name`")
	ls.Flags().StringVar(&outcome, "outcome", "", "only those that ended so: succeeded, retried, dead_lettered, cancelled, expired, stopped, handler_failed, abandoned or failed")
	return c.inApp(group("executions", "See what ran and how it ended", "", ls, &cobra.Command{
		Use: "show ID", Short: "Show all attempts of an execution and what they logged", Args: cobra.ExactArgs(1),
		Long: "Shows the attempts that have ended. What still waits or runs is at `picloud entries show`.",
		RunE: func(cmd *cobra.Command, args []string) error { return c.showExecution(cmd.Context(), args[0]) },
	}))
}

func (c *cli) showExecution(ctx context.Context, id string) error {
	history, err := call[api.ExecutionHistory](ctx, c, http.MethodGet, client.Path("apps", c.app, "executions", id), nil)
	if err != nil {
		return absent(err, fmt.Sprintf("ended execution %s in app %q", id, c.app), "entries show "+id+" --app "+c.app)
	}
	var runs []loggedRun
	for _, attempt := range history.Attempts {
		lines, err := c.logLines(ctx, attempt)
		if err != nil {
			return err
		}
		runs = append(runs, loggedRun{attempt, lines})
	}
	if c.output == "json" {
		return c.print(items[loggedRun]{runs}, nil)
	}
	for _, run := range runs {
		if err := c.printRun(run); err != nil {
			return err
		}
	}
	return nil
}
