package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/core/api"
)

// transactionalCommand says when a script's writes take effect.
func (c *cli) transactionalCommand() *cobra.Command {
	var off bool
	command := &cobra.Command{
		Use: "transactional NAME", Short: "Have a script's writes take effect together, or not at all", Args: cobra.ExactArgs(1),
		Long: `What a run of a transactional script writes and sends takes effect at its end, all of it in one transaction, if the run
succeeds and nothing that it has read was changed meanwhile; otherwise nothing does. A run whose reads were overtaken is tried again
soon, which hardly ever counts as an attempt; a caller that waits has a 409.

It cannot use files, make requests, set secrets, call another script and wait, or list and find data: such a call fails, and says
why.`,
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
