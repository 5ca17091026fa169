package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

func (c *cli) queuesCommand() *cobra.Command {
	var script string
	var made, changed policyFlags
	create := &cobra.Command{
		Use: "create NAME --script NAME", Short: "Make a queue whose messages a script handles", Args: cobra.ExactArgs(1),
		Example: `  picloud queues create mail --script send-mail
  picloud queues create orders --script order --ordering-key '{body.customer}' --attempts 10
  picloud queues create slow --script crawl --concurrency 2 --rate 30/1m`,
		RunE: func(cmd *cobra.Command, args []string) error {
			policy, err := made.read(c)
			if err != nil {
				return err
			}
			body := api.NewQueue{Name: args[0], Script: script}
			if policy != nil {
				body.Policy = *policy
			}
			q, err := call[api.Queue](cmd.Context(), c, http.MethodPost, c.queues(), body)
			return c.printQueue(q, absentApp(err, c.app))
		},
	}
	create.Flags().StringVar(&script, "script", "", "`name` of the script")
	_ = create.MarkFlagRequired("script") // it exists
	made.add(create)

	var another string
	update := &cobra.Command{
		Use: "update NAME", Short: "Change the script or the policy of a queue", Args: cobra.ExactArgs(1),
		Long:    "Changes a queue. A policy that is given replaces the whole one.",
		Example: `  picloud queues update mail --policy '{"max_attempts": 3, "backoff": {"kind": "constant", "base": "1m"}}'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			policy, err := changed.read(c)
			if err != nil {
				return err
			}
			body := api.QueueChange{Policy: policy}
			if another != "" {
				body.Script = &another
			}
			q, err := call[api.Queue](cmd.Context(), c, http.MethodPatch, c.queues(args[0]), body)
			return c.printQueue(q, c.absentQueue(err, args[0]))
		},
	}
	update.Flags().StringVar(&another, "script", "", "`name` of another script")
	changed.add(update)

	return c.inApp(group("queues", "Hand work to scripts, message by message", "",
		&cobra.Command{
			Use: "ls", Short: "List the queues of the app", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				queues, err := list[api.Queue](cmd.Context(), c, c.queues(), nil, 0)
				if err != nil {
					return absentApp(err, c.app)
				}
				return printList(c, queues, []string{"NAME", "SCRIPT", "PAUSED", "POLICY"}, func(q *api.Queue) []string {
					return []string{q.Name, q.Script, yesNo(q.Paused, "paused"), policyText(&q.Policy)}
				})
			},
		},
		&cobra.Command{
			Use: "show NAME", Short: "Show a queue, and how many messages wait and run", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				q, err := call[api.QueueWithCounts](cmd.Context(), c, http.MethodGet, c.queues(args[0]), nil)
				if err != nil {
					return c.absentQueue(err, args[0])
				}
				return c.print(q, func() grid {
					g := queueGrid(&q.Queue)
					g.rows = append(g.rows, []string{"waiting", fmt.Sprint(q.Waiting)}, []string{"running", fmt.Sprint(q.Running)})
					return g
				})
			},
		},
		create, update, c.sendCommand(),
		c.pauseCommand("NAME", "pause", "Have the queue start nothing", c.queues, c.absentQueue),
		c.pauseCommand("NAME", "resume", "End a pause of the queue", c.queues, c.absentQueue),
		&cobra.Command{
			Use: "delete NAME", Aliases: []string{"rm"}, Short: "Delete a queue that is empty", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.absentQueue(c.remove(cmd.Context(), c.queues(args[0])), args[0])
			},
		},
	))
}

// sendFlags say how one message is delivered.
type sendFlags struct {
	body     string
	key      string
	delivery api.Delivery
	priority int
}

func (c *cli) sendCommand() *cobra.Command {
	var f sendFlags
	command := &cobra.Command{
		Use: "send NAME", Short: "Send a message to a queue", Args: cobra.ExactArgs(1),
		Long: "Sends a message and prints the id of its execution. Once it is printed the message is safe.",
		Example: `  picloud queues send mail --body '{"to": "ada@example.com"}'
  picloud queues send orders --body @order.json --ordering-key customer-7 --delay 10m`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("priority") {
				f.delivery.Priority = &f.priority
			}
			return c.send(cmd.Context(), args[0], &f)
		},
	}
	flags := command.Flags()
	flags.StringVarP(&f.body, "body", "b", "", "the data: `text` or JSON, @file, or @- for standard input")
	flags.StringVar(&f.key, "idempotency-key", "", "send it once, however often this is called with the `key` in a day")
	flags.StringVar(&f.delivery.Delay, "delay", "", "`time` before it runs, such as 10m")
	flags.StringVar(&f.delivery.ExpiresIn, "expires-in", "", "`time` after which it is given up if it has not started")
	flags.IntVar(&f.priority, "priority", 0, "from -100 to 100, the lower the earlier")
	flags.IntVar(&f.delivery.MaxAttempts, "attempts", 0, "how often it is tried")
	flags.StringVar(&f.delivery.OrderingKey, "ordering-key", "", "it runs after those of the same `key` that were sent before")
	flags.StringVar(&f.delivery.DebounceKey, "debounce-key", "", "it replaces one of the same `key` that has not run, where the queue debounces")
	return command
}

func (c *cli) send(ctx context.Context, name string, f *sendFlags) error {
	data, err := c.readBody(f.body)
	if err != nil {
		return err
	}
	message := api.NewMessage{Delivery: f.delivery}
	if json.Valid(data) {
		message.Data = data
	} else {
		message.DataBase64 = data
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	var sent api.Accepted
	headers := map[string]string{}
	if f.key != "" {
		headers["Idempotency-Key"] = f.key
	}
	if err := server.Send(ctx, http.MethodPost, c.queues(name, "messages"), headers, message, &sent); err != nil {
		return c.absentQueue(err, name)
	}
	if c.output == "json" {
		return c.print(sent, nil)
	}
	_, err = fmt.Fprintln(c.out, sent.ExecutionID)
	return err
}

func (c *cli) queues(more ...string) string {
	return client.Path(append([]string{"apps", c.app, "queues"}, more...)...)
}

func (c *cli) absentQueue(err error, name string) error {
	return absent(err, fmt.Sprintf("queue %q in app %q", name, c.app), "queues ls --app "+c.app)
}

func (c *cli) printQueue(q api.Queue, err error) error {
	if err != nil {
		return err
	}
	return c.print(q, func() grid { return queueGrid(&q) })
}

func queueGrid(q *api.Queue) grid {
	return grid{rows: [][]string{
		{"name", q.Name},
		{"script", q.Script},
		{"paused", yesNo(q.Paused, "yes")},
		{"policy", policyText(&q.Policy)},
		{"id", q.ID},
	}}
}

// pauseCommand pauses or resumes what path names; absent tells that there is no such thing.
func (c *cli) pauseCommand(names, word, short string, path func(...string) string, absent func(error, string) error) *cobra.Command {
	return &cobra.Command{
		Use: word + " " + names, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := call[api.Paused](cmd.Context(), c, http.MethodPost, path(args[0], word), nil)
			if err != nil {
				return absent(err, args[0])
			}
			return c.print(p, func() grid {
				switch {
				case p.Paused && word == "resume":
					return grid{rows: [][]string{{"still paused: what it belongs to is"}}}
				case p.Paused:
					return grid{rows: [][]string{{"paused"}}}
				}
				return grid{rows: [][]string{{"not paused"}}}
			})
		},
	}
}
