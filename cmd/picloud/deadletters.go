package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

// letterFlags narrow dead letters.
type letterFlags struct {
	script, reason, cause, since, until, text string
	all                                       bool
}

func (f *letterFlags) add(command *cobra.Command) *cobra.Command {
	flags := command.Flags()
	flags.StringVar(&f.script, "script", "", "only of the script with this `name` or id")
	flags.StringVar(&f.reason, "reason", "", "only those given up for this `word`, such as exhausted, fatal or poison")
	flags.StringVar(&f.cause, "cause", "", "only those of this `group`, see dead-letters groups")
	flags.StringVar(&f.since, "since", "", "only those given up since this `time`: 2h, or 2026-01-31T12:00:00Z")
	flags.StringVar(&f.until, "until", "", "only those given up before this `time`")
	flags.StringVar(&f.text, "text", "", "only those with this `text` in their error")
	return command
}

// addAll adds the flag for those that are resolved.
func (f *letterFlags) addAll(command *cobra.Command) *cobra.Command {
	command.Flags().BoolVar(&f.all, "all", false, "also those that are resolved")
	return f.add(command)
}

func (f *letterFlags) filter() (out api.LetterFilter, err error) {
	out = api.LetterFilter{Script: f.script, Reason: f.reason, Cause: f.cause, Text: f.text}
	if out.Since, err = moment("--since", f.since); err != nil {
		return out, err
	}
	out.Until, err = moment("--until", f.until)
	return out, err
}

// moment reads a time, or how long ago it was.
func moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%s is a time such as 2026-01-31T12:00:00Z, or how long ago such as 2h, not %q", flag, text)
	}
	return t, nil
}

func (f *letterFlags) query() (url.Values, error) {
	filter, err := f.filter()
	if err != nil {
		return nil, err
	}
	query := url.Values{}
	if !f.all {
		query.Set("unresolved", "true")
	}
	for name, value := range map[string]string{
		"script": filter.Script, "reason": filter.Reason, "cause": filter.Cause, "text": filter.Text,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, t := range map[string]time.Time{"since": filter.Since, "until": filter.Until} {
		if !t.IsZero() {
			query.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	return query, nil
}

func (c *cli) deadLettersCommand() *cobra.Command {
	var listed, grouped, counted, closed letterFlags
	var limit int
	ls := listed.addAll(recent(&cobra.Command{
		Use: "ls", Short: "List dead letters, newest first", Args: cobra.NoArgs,
		Example: "  picloud dead-letters ls --script order --since 24h",
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := listed.query()
			if err != nil {
				return err
			}
			letters, err := list[api.DeadLetter](cmd.Context(), c, c.deadLetters(), query, limit)
			if err != nil {
				return absentApp(err, c.app)
			}
			return printList(c, letters, []string{"ID", "SCRIPT", "REASON", "ATTEMPTS", "CREATED", "RESOLUTION", "ERROR"},
				func(d *api.DeadLetter) []string {
					return []string{
						d.ID, first(d.Script, d.Sink), d.Reason, attempts(d.Attempts, d.MaxAttempts), clock(d.CreatedAt), first(d.Resolution, "-"), d.Error,
					}
				})
		},
	}, &limit))
	groups := grouped.addAll(&cobra.Command{
		Use: "groups", Short: "List the causes of dead letters, the most frequent first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := grouped.query()
			if err != nil {
				return err
			}
			page, err := read[api.Page[api.LetterGroup]](cmd.Context(), c, client.Path("apps", c.app, "dead-letter-groups"), query)
			if err != nil {
				return absentApp(err, c.app)
			}
			return printList(c, page.Items, []string{"CAUSE", "COUNT", "SCRIPT", "VERSION", "REASON", "LAST", "ERROR"},
				func(g *api.LetterGroup) []string {
					return []string{g.Cause, fmt.Sprint(g.Count), g.Script, number(g.Version), g.Reason, clock(g.Last), g.Error}
				})
		},
	})
	count := counted.addAll(&cobra.Command{
		Use: "count", Short: "Count dead letters", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := counted.query()
			if err != nil {
				return err
			}
			n, err := read[api.Count](cmd.Context(), c, client.Path("apps", c.app, "dead-letter-count"), query)
			if err != nil {
				return absentApp(err, c.app)
			}
			return c.print(n, func() grid { return grid{rows: [][]string{{fmt.Sprint(n.Count)}}} })
		},
	})

	var as, allAs string
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
	resolveAll := closed.add(&cobra.Command{
		Use: "resolve-all", Short: "Close dead letters without putting them back", Args: cobra.NoArgs,
		Example: "  picloud dead-letters resolve-all --cause 9f86d081884c7d65",
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.resolveAll(cmd.Context(), &closed, allAs) },
	})
	resolveAll.Flags().StringVar(&allAs, "as", "ignored", "`word` for how: ignored or handled_by_script")

	return c.inApp(group("dead-letters", "See what failed for good, and put it back", "", ls, groups, count,
		&cobra.Command{
			Use: "show ID", Short: "Show a dead letter with the data of its event", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return c.showDeadLetter(cmd.Context(), args[0]) },
		},
		c.replayCommand(), c.replayAllCommand(), resolve, resolveAll,
	))
}

// replayCommand puts one letter back.
func (c *cli) replayCommand() *cobra.Command {
	var body string
	command := &cobra.Command{
		Use: "replay ID", Short: "Put a dead letter back, with all its attempts", Args: cobra.ExactArgs(1),
		Example: "  picloud dead-letters replay 0192d1a4-7c1e-7b7e-9d2b-3f6a1c0e5b11 --body @mended.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			var in any
			if cmd.Flags().Changed("body") {
				data, err := c.readBody(body)
				if err != nil {
					return err
				}
				in = api.NewReplay{BodyBase64: data}
				if len(data) == 0 { // in base64 it would be nothing, and keep the event's
					in = api.NewReplay{Body: new("")}
				}
			}
			r, err := call[api.Replayed](cmd.Context(), c, http.MethodPost, c.deadLetters(args[0], "replay"), in)
			if err != nil {
				return c.absentDeadLetter(err, args[0])
			}
			return c.print(r, func() grid { return grid{rows: [][]string{{"execution", r.ExecutionID}}} })
		},
	}
	command.Flags().StringVarP(&body, "body", "b", "", "data in place of the event's: `text`, @file, or @- for standard input")
	return command
}

// replayAllCommand puts letters back in numbers.
func (c *cli) replayAllCommand() *cobra.Command {
	var f letterFlags
	var in api.NewReplays
	command := f.add(&cobra.Command{
		Use: "replay-all", Short: "Put dead letters back, some a second", Args: cobra.NoArgs,
		Long: `Puts all open dead letters that the flags name back, oldest first, and shows how far it is until it has ended. It goes on
without this command; --cancel ends one that goes on.`,
		Example: `  picloud dead-letters replay-all --preview
  picloud dead-letters replay-all --script order --since 24h --rate 50 --stop-on-failure`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if id, _ := cmd.Flags().GetString("cancel"); id != "" {
				r, err := call[api.Replay](cmd.Context(), c, http.MethodPost, client.Path("apps", c.app, "replays", id, "cancel"), nil)
				if err != nil {
					return absent(err, fmt.Sprintf("replay %s in app %q", id, c.app), "dead-letters ls --all --app "+c.app)
				}
				return c.printReplay(&r)
			}
			if in.Rate < 1 {
				return errors.New("--rate is how many are put back a second, 1 at least")
			}
			filter, err := f.filter()
			if err != nil {
				return err
			}
			in.Filter = filter
			return c.replayAll(cmd.Context(), in)
		},
	})
	flags := command.Flags()
	flags.IntVar(&in.Rate, "rate", 10, "how many a second")
	flags.BoolVar(&in.StopOnFailure, "stop-on-failure", false, "stop once one of them has failed for good again, within a second or two")
	flags.BoolVar(&in.Preview, "preview", false, "only tell how many there are")
	flags.String("cancel", "", "end the replay with this `id`")
	return command
}

// replayAll starts a replay and follows it to its end.
func (c *cli) replayAll(ctx context.Context, in api.NewReplays) error {
	path := client.Path("apps", c.app, "replays")
	r, err := call[api.Replay](ctx, c, http.MethodPost, path, in)
	if err != nil {
		return absentApp(err, c.app)
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	shows := c.output != "json" && terminal(c.errs)
	for r.State == "running" {
		if shows {
			if _, err := fmt.Fprintf(c.errs, "\r%d of %d put back, %d failed again ", r.Replayed, r.Total, r.Failed); err != nil {
				return err
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("the replay %s goes on: end it with `picloud dead-letters replay-all --cancel %s`", r.ID, r.ID)
		}
		if r, err = call[api.Replay](ctx, c, http.MethodGet, path+"/"+r.ID, nil); err != nil {
			return err
		}
	}
	if shows && !in.Preview {
		if _, err := fmt.Fprintln(c.errs); err != nil {
			return err
		}
	}
	return c.printReplay(&r)
}

func (c *cli) printReplay(r *api.Replay) error {
	return c.print(r, func() grid {
		if r.State == "preview" {
			return grid{rows: [][]string{{"would put back", fmt.Sprint(r.Total)}}}
		}
		return grid{rows: [][]string{
			{"id", r.ID},
			{"state", r.State},
			{"put back", fmt.Sprintf("%d of %d", r.Replayed, r.Total)},
			{"failed again", fmt.Sprint(r.Failed)},
		}}
	})
}

// resolveAll asks until nothing is left to close.
func (c *cli) resolveAll(ctx context.Context, f *letterFlags, as string) error {
	filter, err := f.filter()
	if err != nil {
		return err
	}
	total := api.Resolved{More: true}
	for total.More {
		r, err := call[api.Resolved](ctx, c, http.MethodPost, client.Path("apps", c.app, "dead-letter-resolutions"),
			api.ResolveAll{Filter: filter, Resolution: as})
		if err != nil {
			return absentApp(err, c.app)
		}
		total.Resolved += r.Resolved
		total.More = r.More
	}
	return c.print(total, func() grid { return grid{rows: [][]string{{"resolved", fmt.Sprint(total.Resolved)}}} })
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
		{"script or sink", first(d.Script, d.Sink)},
		{"kind", d.Kind},
		{"reason", d.Reason},
		{"error", d.Error},
		{"fault", d.Fault},
		{"cause", d.Cause},
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
