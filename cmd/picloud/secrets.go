package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

func (c *cli) secretsCommand() *cobra.Command {
	var file string
	var asJSON bool
	set := &cobra.Command{
		Use: "set NAME", Short: "Set a secret to what comes from standard input or a file", Args: cobra.ExactArgs(1),
		Long: `Sets a secret. The value is text, without the line break at its end, or with --json any JSON value. It is never an
argument: every user of the machine can read those, and shells keep them.`,
		Example: `  picloud secrets set STRIPE_KEY < stripe.key
  pass show mail | picloud secrets set MAIL_PASSWORD
  picloud secrets set DATABASE --json --file database.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			value, err := c.secretValue(file, asJSON)
			if err != nil {
				return err
			}
			s, err := call[api.Secret](cmd.Context(), c, http.MethodPost, c.secrets(), api.SecretValue{Name: args[0], Value: value})
			if err != nil {
				return absentApp(err, c.app)
			}
			return c.print(s, func() grid { return grid{rows: [][]string{{"set", s.Name}}} })
		},
	}
	set.Flags().StringVar(&file, "file", "", "`file` that holds the value")
	set.Flags().BoolVar(&asJSON, "json", false, "the value is JSON")
	return c.inApp(group("secrets", "Keep values that only scripts see", "",
		&cobra.Command{
			Use: "ls", Short: "List the names of the secrets of the app", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				secrets, err := list[api.Secret](cmd.Context(), c, c.secrets(), nil, 0)
				if err != nil {
					return absentApp(err, c.app)
				}
				return printList(c, secrets, []string{"NAME", "UPDATED"}, func(s *api.Secret) []string {
					return []string{s.Name, clock(s.UpdatedAt)}
				})
			},
		},
		set,
		&cobra.Command{
			Use: "delete NAME", Aliases: []string{"rm"}, Short: "Delete a secret", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				err := c.remove(cmd.Context(), c.secrets(args[0]))
				return absent(err, fmt.Sprintf("secret %q in app %q", args[0], c.app), "secrets ls --app "+c.app)
			},
		},
		&cobra.Command{
			Use: "rotate", Short: "Seal the secrets of all apps with a new key", Args: cobra.NoArgs,
			Long: `Seals the secrets of all apps with a new key, and forgets the old ones. It can be interrupted, and goes on where it
was. The key of the nodes, PICLOUD_SECRET_KEY, is changed by giving them the new one, a comma and the old one, rotating,
and then giving them the new one alone.`,
			RunE: func(cmd *cobra.Command, _ []string) error {
				total := 0
				for {
					r, err := call[api.Rotation](cmd.Context(), c, http.MethodPost, client.Path("secrets", "rotate"), nil)
					if err != nil {
						return err
					}
					if total += r.Done; r.Left == 0 {
						return c.print(api.Rotation{Done: total}, func() grid {
							return grid{rows: [][]string{{"sealed anew", fmt.Sprint(total)}}}
						})
					}
				}
			},
		},
	))
}

func (c *cli) secrets(more ...string) string {
	return client.Path(append([]string{"apps", c.app, "secrets"}, more...)...)
}

// secretValue reads a value as JSON.
func (c *cli) secretValue(file string, isJSON bool) (data json.RawMessage, err error) {
	switch {
	case file != "":
		data, err = os.ReadFile(file)
	case terminal(c.in):
		return nil, errors.New("give the value on standard input or with --file: what is typed here would stay on the screen")
	default:
		data, err = io.ReadAll(c.in)
	}
	if err != nil {
		return nil, fmt.Errorf("read the value: %w", err)
	}
	if isJSON {
		if !json.Valid(data) {
			return nil, errors.New("the value is not JSON")
		}
		return data, nil
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if !utf8.Valid(data) {
		return nil, errors.New("the value is not text in UTF-8: encode it first, for example with base64")
	}
	return json.Marshal(string(data))
}
