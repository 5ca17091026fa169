package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/core/api"
)

// createTriggerCommand makes triggers of events that happen in the app.
func (c *cli) createTriggerCommand() *cobra.Command {
	var body api.NewTrigger
	var policy policyFlags
	command := &cobra.Command{
		Use: "create NAME --kind KIND --script NAME|--sink NAME", Short: "Have a script run when data changes, a message is published, a time comes or another service calls",
		Args: cobra.ExactArgs(1),
		Long: `Has a script run for each event of a kind: kv, docs or files when data in a collection changes, pubsub when a message is published
under a topic, cron when a time comes. The script's body is JSON: of a change the collection, key (or id), op, value and previous, of a
message the message, of a time scheduled_at.

Kind webhook takes requests of other services at /.picloud/webhooks/NAME on every host of the app, and gives them to the script as they
are. --signature says how they are signed: standard (Standard Webhooks), github, stripe, slack, hmac (of the body, in a header) or none;
--secret names the secret of the app that holds the key. The sender is answered once the request is safe; the script runs after that.

Kind source takes the events of a source of the app, see picloud sources, and kind email the messages of e-mail that one of them takes in. With --signature, kind email also takes messages as JSON, like a webhook:
from, to, cc, subject, text, html and message_id.

Kind app tells what becomes of the app itself: --event deployed when scripts have other versions, --event failed when a run, or a
delivery to a sink, has failed and will not be tried again; --of names scripts that it is about.

--when is an expression in CEL that has to be true of the event. It knows event.type, event.collection, event.key, event.op and
event.topic, and data, which is what the script is given. Of a webhook event.topic is what its sender calls the event.
Where it fails, such as for want of a field, the event is not taken: an execution of the script that was stopped, for the reason when, says so,
once a minute at most.`,
		Example: `  picloud triggers create welcome --kind kv --script welcome --collection 'user*' --op create
  picloud triggers create big --kind docs --script review --collection orders --when 'data.value.total > 100'
  picloud triggers create billing --kind docs --sink billing --collection orders
  picloud triggers create stock --kind pubsub --script stock --topic 'order.*'
  picloud triggers create report --kind cron --script report --schedule '0 9 * * 1-5' --time-zone Europe/Berlin
  picloud triggers create orders --kind source --script order --source shop --type 'order.*'
  picloud triggers create post --kind email --script post --to '*@shop.example.com'
  picloud triggers create alarm --kind app --script tell-me --event failed --of order,mail
  picloud triggers create pushes --kind webhook --script build --signature github --secret GITHUB_KEY --when 'event.topic == "push"'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			body.Name = args[0]
			read, err := policy.read(c)
			if err != nil {
				return err
			}
			if read != nil {
				body.Policy = *read
			}
			t, err := call[api.Trigger](cmd.Context(), c, http.MethodPost, c.triggers(), body)
			return c.printTrigger(t, absentApp(err, c.app))
		},
	}
	flags := command.Flags()
	flags.StringVar(&body.Kind, "kind", "", "`kind` of event: kv, docs, files, pubsub, cron, webhook, source, email or app")
	flags.StringVar(&body.Script, "script", "", "`name` of the script that runs")
	flags.StringVar(&body.Sink, "sink", "", "or `name` of the sink that the event goes to, as JSON with id, type, time, source, subject and data")
	flags.StringVar(&body.Filter.Collection, "collection", "", "of kv, docs and files: a collection, `'prefix*'`, or '*' for all")
	flags.StringSliceVar(&body.Filter.Ops, "op", nil, "of kv, docs and files: `words` for what is done: create, update, delete (default: all)")
	flags.StringVar(&body.Filter.Topic, "topic", "", "of pubsub: a topic, `'prefix.*'`, or '*' for all")
	flags.StringVar(&body.Filter.Schedule, "schedule", "", "of cron: `fields` for minute, hour, day of month, month and day of week; six begin with the second")
	flags.StringVar(&body.Filter.TimeZone, "time-zone", "", "of cron: `name` such as Europe/Berlin (default: UTC)")
	flags.StringVar(&body.Filter.Source, "source", "", "of source: `name` of the source (default: any)")
	flags.StringVar(&body.Filter.Type, "type", "", "of source: what the events are called, `'prefix.*'`, or '*' (default: all)")
	flags.StringVar(&body.Filter.To, "to", "", "of email: `address` that it was sent to, in which one star stands for any text (default: any)")
	flags.StringSliceVar(&body.Filter.Events, "event", nil, "of app: `words`: deployed, failed (default: both)")
	flags.StringSliceVar(&body.Filter.Scripts, "of", nil, "of app: `names` of scripts that it is about (default: all)")
	flags.StringVar(&body.Filter.Signature, "signature", "", "of webhook: `how` requests are signed: standard, github, stripe, slack, hmac or none")
	flags.StringVar(&body.Filter.Secret, "secret", "", "of webhook: `name` of the secret that holds the key")
	flags.StringVar(&body.Filter.Header, "header", "", "of signature hmac: `name` of the header (default: X-Signature)")
	flags.StringVar(&body.Filter.Algorithm, "algorithm", "", "of signature hmac: `name`: sha1, sha256 or sha512 (default: sha256)")
	flags.StringVar(&body.Filter.When, "when", "", "an `expression` that has to be true of the event")
	policy.add(command)
	_ = command.MarkFlagRequired("kind") // it exists
	command.MarkFlagsOneRequired("script", "sink")
	command.MarkFlagsMutuallyExclusive("script", "sink")
	return command
}

func (c *cli) nextCommand() *cobra.Command {
	var count int
	command := &cobra.Command{
		Use: "next NAME", Short: "Say when a trigger of kind cron comes next", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			times, err := call[api.TriggerTimes](cmd.Context(), c, http.MethodGet, c.triggers(args[0], "next")+"?count="+strconv.Itoa(count), nil)
			if err != nil {
				return c.absentTrigger(err, args[0])
			}
			return printList(c, times.Items, []string{"AT", "LOCAL"}, func(t *api.TriggerTime) []string {
				return []string{clock(t.At), t.Local}
			})
		},
	}
	command.Flags().IntVar(&count, "count", 5, "how many times")
	return command
}

func (c *cli) fireCommand() *cobra.Command {
	var event api.TriggerEvent
	var data, previous string
	command := &cobra.Command{
		Use: "fire NAME", Short: "Run the script of a trigger as if its event had happened", Args: cobra.ExactArgs(1),
		Long: `Makes an event as if it had happened, and prints the id of its execution. What is not given is made up so that the trigger takes
it; where it does not, it says why.`,
		Example: `  picloud triggers fire big --body '{"total": 120.5}'
  picloud triggers fire stock --topic order.paid --body @order.json
  picloud triggers fire report`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if event.Data, err = c.readJSON(data); err != nil {
				return err
			}
			if event.Previous, err = c.readJSON(previous); err != nil {
				return err
			}
			sent, err := call[api.Accepted](cmd.Context(), c, http.MethodPost, c.triggers(args[0], "fire"), event)
			if err != nil {
				return c.absentTrigger(err, args[0])
			}
			if c.output == "json" {
				return c.print(sent, nil)
			}
			_, err = fmt.Fprintln(c.out, sent.ExecutionID)
			return err
		},
	}
	flags := command.Flags()
	flags.StringVarP(&data, "body", "b", "", "the value as it is now, or the message: `JSON` or text, @file, or @- for standard input")
	flags.StringVar(&previous, "previous", "", "the value before: `JSON` or text, or @file")
	flags.StringVar(&event.Collection, "collection", "", "`name` of a collection that the trigger takes")
	flags.StringVar(&event.Key, "key", "", "`key` of the value, or id of the document or file")
	flags.StringVar(&event.Op, "op", "", "`word` for what is done: create, update or delete")
	flags.StringVar(&event.Topic, "topic", "", "`topic` that the trigger takes")
	return command
}

// readJSON reads a flag that is JSON, or text that becomes a string; nil: it is not given.
func (c *cli) readJSON(flag string) (json.RawMessage, error) {
	if flag == "" {
		return nil, nil
	}
	text, err := c.readBody(flag)
	if err != nil || json.Valid(text) {
		return text, err
	}
	return json.Marshal(string(text))
}
