package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

// sinkFlags say what a sink is made of.
type sinkFlags struct {
	kind, config string
	url          string
	keys         []string
	timeout      time.Duration
	attempts     int
	policy       policyFlags
}

func (f *sinkFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&f.config, "config", "", "`JSON` that the kind takes, @file, or @- for standard input")
	flags.StringVar(&f.url, "url", "", "of http, in place of --config: the `URL` that events are posted to")
	flags.StringSliceVar(&f.keys, "key", nil, "with --url: `names` of secrets that hold keys to sign with, whsec_ and base64")
	flags.DurationVar(&f.timeout, "timeout", 0, "`time` of one attempt (default 30s)")
	flags.IntVar(&f.attempts, "tries", 0, "how often an event is tried (default 8)")
	f.policy.add(command)
}

// read returns the configuration, nil if none is given.
func (f *sinkFlags) read(c *cli) (json.RawMessage, error) {
	switch {
	case f.url != "" && f.config != "":
		return nil, errors.New("--url and --config exclude each other")
	case f.url != "":
		config := map[string]any{"url": f.url}
		if len(f.keys) > 0 {
			keys := []any{}
			for _, name := range f.keys {
				keys = append(keys, map[string]string{"secret": name})
			}
			config["keys"] = keys
		}
		return json.Marshal(config)
	case len(f.keys) > 0:
		return nil, errors.New("--key goes with --url; in --config keys are written {\"secret\": \"NAME\"}")
	case f.config == "":
		return nil, nil
	}
	config, err := c.readBody(f.config)
	if err == nil && !json.Valid(config) {
		err = errors.New("--config is no JSON")
	}
	return config, err
}

func (c *cli) sinksCommand() *cobra.Command {
	var made, changed sinkFlags
	create := &cobra.Command{
		Use: "create NAME --url URL | --kind KIND --config JSON", Short: "Make a sink, to which scripts and triggers send events", Args: cobra.ExactArgs(1),
		Long: `Makes a sink. Kind http posts each event to a URL, signed as Standard Webhooks says with each of its keys; kind smtp hands e-mail to a
mail server. Passwords and keys are secrets of the app, which a configuration refers to: {"secret": "NAME"}. The sink checks the
configuration; nothing is sent yet, see the command test.`,
		Example: `  picloud sinks create billing --url https://billing.example.com/hook --key BILLING_KEY
  picloud sinks create slack --kind http --config '{"url": {"secret": "SLACK_URL"}}'
  picloud sinks create alarm --kind smtp --config '{"host": "smtp.example.com", "user": "u", "password": {"secret": "SMTP"},
    "from": "picloud@example.com", "to": "me@example.com"}'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := made.read(c)
			if err != nil {
				return err
			}
			if config == nil {
				return errors.New("give --url, or --kind and --config")
			}
			policy, err := made.policy.read(c)
			if err != nil {
				return err
			}
			body := api.NewSink{
				Name: args[0], Kind: made.kind, Config: config, TimeoutMS: made.timeout.Milliseconds(), MaxAttempts: made.attempts,
			}
			if policy != nil {
				body.Policy = *policy
			}
			k, err := call[api.Sink](cmd.Context(), c, http.MethodPost, c.sinks(), body)
			return c.printSink(k, absentApp(err, c.app))
		},
	}
	create.Flags().StringVar(&made.kind, "kind", "http", "`kind` of sink: http, smtp, or that of an installed plugin")
	made.add(create)

	update := &cobra.Command{
		Use: "update NAME", Short: "Change the configuration or the policy of a sink", Args: cobra.ExactArgs(1),
		Long:    "Changes a sink. A configuration or a policy that is given replaces the whole one. What waits is delivered by the new configuration.",
		Example: "  picloud sinks update billing --url https://billing.example.com/hook --key BILLING_KEY,BILLING_KEY_OLD",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := api.SinkChange{}
			var err error
			if body.Config, err = changed.read(c); err != nil {
				return err
			}
			if body.Policy, err = changed.policy.read(c); err != nil {
				return err
			}
			if ms := int(changed.timeout.Milliseconds()); ms > 0 {
				body.TimeoutMS = &ms
			}
			if changed.attempts > 0 {
				body.MaxAttempts = &changed.attempts
			}
			k, err := call[api.Sink](cmd.Context(), c, http.MethodPatch, c.sinks(args[0]), body)
			return c.printSink(k, c.absentSink(err, args[0]))
		},
	}
	changed.add(update)

	return c.inApp(group("sinks", "Have events leave the platform", "",
		&cobra.Command{
			Use: "ls", Short: "List the sinks of the app", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				sinks, err := list[api.Sink](cmd.Context(), c, c.sinks(), nil, 0)
				if err != nil {
					return absentApp(err, c.app)
				}
				return printList(c, sinks, []string{"NAME", "KIND", "VERSION", "PAUSED", "POLICY"}, func(k *api.Sink) []string {
					return []string{k.Name, k.Kind, fmt.Sprint(k.Version), yesNo(k.Paused, "paused"), policyText(&k.Policy)}
				})
			},
		},
		&cobra.Command{
			Use: "show NAME", Short: "Show a sink", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				k, err := call[api.Sink](cmd.Context(), c, http.MethodGet, c.sinks(args[0]), nil)
				return c.printSink(k, c.absentSink(err, args[0]))
			},
		},
		create, update, c.testSinkCommand(),
		c.pauseCommand("NAME", "pause", "Have the sink be sent nothing", c.sinks, c.absentSink),
		c.pauseCommand("NAME", "resume", "End a pause of the sink", c.sinks, c.absentSink),
		&cobra.Command{
			Use: "delete NAME", Aliases: []string{"rm"}, Short: "Delete a sink that no trigger leads to", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.absentSink(c.remove(cmd.Context(), c.sinks(args[0])), args[0])
			},
		},
	))
}

func (c *cli) testSinkCommand() *cobra.Command {
	var data, kind string
	var async bool
	command := &cobra.Command{
		Use: "test NAME", Short: "Send something to a sink, and show how it went", Args: cobra.ExactArgs(1),
		Example: `  picloud sinks test billing
  picloud sinks test billing --type order.paid --body '{"order": 7}'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			body := api.SinkTest{Type: kind}
			if data != "" {
				text, err := c.readBody(data)
				if err != nil {
					return err
				}
				if body.Data = text; !json.Valid(text) {
					return errors.New("--body is no JSON")
				}
			}
			sent, err := call[api.Accepted](cmd.Context(), c, http.MethodPost, c.sinks(args[0], "test"), body)
			if err != nil {
				return c.absentSink(err, args[0])
			}
			if async {
				_, err := fmt.Fprintln(c.out, sent.ExecutionID)
				return err
			}
			return c.awaitDelivery(cmd.Context(), sent.ExecutionID)
		},
	}
	command.Flags().StringVarP(&data, "body", "b", "", "what is sent: `JSON`, @file, or @- for standard input (default: {\"test\": true})")
	command.Flags().StringVar(&kind, "type", "", "`type` of the event, such as order.paid")
	command.Flags().BoolVar(&async, "async", false, "print the id of the execution, and do not wait")
	return command
}

// awaitDelivery shows an execution once it has ended.
func (c *cli) awaitDelivery(ctx context.Context, id string) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		history, err := call[api.ExecutionHistory](ctx, c, http.MethodGet, client.Path("apps", c.app, "executions", id), nil)
		if err == nil && len(history.Attempts) > 0 {
			last := history.Attempts[len(history.Attempts)-1]
			if err := c.showExecution(ctx, id); err != nil {
				return err
			}
			if last.Outcome != "succeeded" {
				why, _, _ := strings.Cut(last.Error, "\n") // the rest, which was shown, is for whoever wrote the plugin
				return fmt.Errorf("it was not delivered: %s", why)
			}
			return nil
		}
		if err != nil && !client.Is(err, "not_found") {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *cli) sinks(more ...string) string {
	return client.Path(append([]string{"apps", c.app, "sinks"}, more...)...)
}

func (c *cli) absentSink(err error, name string) error {
	return absent(err, fmt.Sprintf("sink %q in app %q", name, c.app), "sinks ls --app "+c.app)
}

func (c *cli) printSink(k api.Sink, err error) error {
	if err != nil {
		return err
	}
	return c.print(k, func() grid {
		return grid{rows: [][]string{
			{"name", k.Name},
			{"kind", k.Kind},
			{"config", string(k.Config)},
			{"version", fmt.Sprint(k.Version)},
			{"timeout", (time.Duration(k.TimeoutMS) * time.Millisecond).String()},
			{"attempts", fmt.Sprint(k.MaxAttempts)},
			{"paused", yesNo(k.Paused, "yes")},
			{"policy", policyText(&k.Policy)},
			{"id", k.ID},
		}}
	})
}
