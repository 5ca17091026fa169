package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

// followEvery is how often new executions are asked for.
const followEvery = time.Second

func (c *cli) logsCommand() *cobra.Command {
	var follow bool
	var limit int
	command := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show how a script ran and what it logged",
		Long: `Shows the last runs of a script, oldest first: how each ended, and what it logged. With -f it goes on with the runs
to come, until Ctrl-C.`,
		Example: `  picloud logs hello
  picloud logs order --app shop -f
  picloud logs order --limit 200 --output json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.logs(cmd.Context(), args[0], limit, follow)
		},
	}
	command.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new runs")
	command.Flags().IntVar(&limit, "limit", 20, "how many runs to begin with")
	return c.inApp(command)
}

// loggedRun is one attempt with what it logged.
type loggedRun struct {
	api.Execution
	Logs []api.LogLine `json:"logs"`
}

// runKey tells attempts apart.
type runKey struct {
	id      string
	attempt int
}

func (c *cli) logs(ctx context.Context, script string, limit int, follow bool) error {
	if limit < 1 {
		return fmt.Errorf("--limit is 1 or more, not %d", limit)
	}
	runs, err := c.runs(ctx, script, limit)
	if err != nil {
		return c.absentScript(err, script)
	}
	// What ends while this is running may come before what is known already, so the last page is compared as a whole.
	shown := map[runKey]bool{}
	if err := c.printRuns(ctx, runs, shown); err != nil {
		return err
	}
	if !follow {
		if len(runs) == 0 {
			_, err = fmt.Fprintf(c.errs, "No run of %s has ended yet; -f waits for the next.\n", script)
		}
		return err
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil // the way to end it
		}
		if runs, err = c.runs(ctx, script, pageSize); err == nil {
			err = c.printRuns(ctx, runs, shown)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// runs returns the last attempts at a script's events, oldest first.
func (c *cli) runs(ctx context.Context, script string, limit int) ([]api.Execution, error) {
	runs, err := list[api.Execution](ctx, c, client.Path("apps", c.app, "executions"), url.Values{"script": {script}}, limit)
	slices.Reverse(runs)
	return runs, err
}

// printRuns prints the attempts that are not in shown and notes them there.
func (c *cli) printRuns(ctx context.Context, runs []api.Execution, shown map[runKey]bool) error {
	for _, run := range runs {
		key := runKey{run.ID, run.Attempt}
		if shown[key] {
			continue
		}
		lines, err := c.logLines(ctx, run)
		if err != nil {
			return err
		}
		if err := c.printRun(loggedRun{run, lines}); err != nil {
			return err
		}
		shown[key] = true
	}
	return nil
}

func (c *cli) logLines(ctx context.Context, run api.Execution) ([]api.LogLine, error) {
	all, err := list[api.LogLine](ctx, c, client.Path("apps", c.app, "executions", run.ID, "logs"), nil, 0)
	return slices.DeleteFunc(all, func(l api.LogLine) bool { return l.Attempt != run.Attempt }), err
}

func (c *cli) printRun(run loggedRun) error {
	if c.output == "json" {
		return c.print(run, nil)
	}
	head := fmt.Sprintf("%s  %s  attempt %d  %s", clock(run.FinishedAt), run.ID, run.Attempt, run.Outcome)
	if run.Status != 0 {
		head += fmt.Sprintf(" %d %s", run.Status, http.StatusText(run.Status))
	}
	head += " in " + milliseconds(run.DurationMS)
	if run.Error != "" {
		head += ": " + run.Error
	}
	if _, err := fmt.Fprintln(c.out, printable(head)); err != nil {
		return err
	}
	for _, line := range run.Logs {
		if _, err := fmt.Fprintln(c.out, "    "+printable(logText(line))); err != nil {
			return err
		}
	}
	return nil
}

func logText(l api.LogLine) string {
	text := fmt.Sprintf("%s %-5s %s", l.Time.Local().Format("15:04:05.000"), l.Level, l.Message)
	if len(l.Data) > 0 {
		text += " " + string(l.Data)
	}
	return text
}
