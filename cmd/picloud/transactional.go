package main

import (
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/tenant"
)

// transactionalCommand says when a script's writes take effect.
func (c *cli) transactionalCommand() *cobra.Command {
	var off bool
	command := &cobra.Command{
		Use: "transactional NAME", Short: "Have a script's writes take effect together, or not at all", Args: cobra.ExactArgs(1),
		Long: `What a run of a transactional script writes and sends takes effect at its end, all of it in one transaction, if the run
succeeds and nothing that it has read was changed meanwhile; otherwise nothing does. A run whose reads were overtaken is tried again
soon, which hardly ever counts as an attempt; a caller that waits has a 409.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			on := !off
			s, err := call[api.Script](cmd.Context(), c, http.MethodPatch, c.scripts(args[0]), api.ScriptChange{Transactional: &on})
			if err != nil {
				return c.absentScript(err, args[0])
			}
			return c.print(s, func() grid { return scriptGrid(&s) })
		},
	}
	command.Flags().BoolVar(&off, "off", false, "have them take effect at once")
	return command
}

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
