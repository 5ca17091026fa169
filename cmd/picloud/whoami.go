package main

import (
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

func (c *cli) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "whoami",
		Short: "Tell which server the commands talk to, and as whom",
		Example: `  picloud whoami
  picloud whoami --url http://127.0.0.1:8081 --token pic_...`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := c.client()
			if err != nil {
				return err
			}
			var who api.Whoami
			if err := server.Do(cmd.Context(), http.MethodGet, client.Path("whoami"), nil, nil, &who); err != nil {
				return err
			}
			return c.print(who, func() grid {
				g := grid{rows: [][]string{{"server", server.URL}, {"id", who.ID}, {"name", who.Name}, {"role", who.Role}}}
				if who.App != "" {
					g.rows = append(g.rows, []string{"only app", who.App})
				}
				if len(who.Scopes) > 0 {
					g.rows = append(g.rows, []string{"scopes", strings.Join(who.Scopes, " ")})
				}
				return g
			})
		},
	}
}
