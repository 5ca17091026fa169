package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/sdk/picloud/typescript"
)

func (c *cli) typesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "types", Short: "Print the declarations for scripts in TypeScript", Args: cobra.NoArgs,
		Long: `Prints picloud.d.ts: what scripts in TypeScript and JavaScript see of the platform. Beside a script it has editors and compilers
know the types. The platform takes types away without checking them.`,
		Example: `  picloud types > picloud.d.ts
  npx tsc --noEmit --strict --target es2022 --moduleResolution bundler --module es2022 picloud.d.ts order.ts`,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(c.out, typescript.Declarations)
			return err
		},
	}
}
