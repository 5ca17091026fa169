package main

import (
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/tenant"
)

// grantsCommand says what runs may use that act for nobody.
func (c *cli) grantsCommand() *cobra.Command {
	var only []string
	command := &cobra.Command{
		Use: "grants NAME", Short: "Say which services a script's runs may use that act for nobody", Args: cobra.ExactArgs(1),
		Long: "Replaces the grants of a script; without a flag it has all: " + strings.Join(tenant.DefaultGrants(), ", ") + `.
A call of a service looks at them as they are then.`,
		Example: `  picloud scripts grants form --only kv,secrets`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("only") {
				only = tenant.DefaultGrants()
			}
			s, err := call[api.Script](cmd.Context(), c, http.MethodPatch, c.scripts(args[0]), api.ScriptChange{Grants: &only})
			if err != nil {
				return c.absentScript(err, args[0])
			}
			return c.print(s, func() grid { return scriptGrid(&s) })
		},
	}
	command.Flags().StringSliceVar(&only, "only", nil, "`services`, parted by commas; empty: none")
	return command
}
