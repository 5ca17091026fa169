package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/config"
	"github.com/picloud/picloud/core/node"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/postgres/embedded"
	"github.com/picloud/picloud/sdk/picloud"
)

func (c *cli) migrateCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database to the newest schema",
		Long: `Brings the database to the newest schema and ends. Every start of a server does so too; this is for those who want to
do it beforehand. Servers that start at one time do it one after the other.`,
		Example: `  PICLOUD_DATABASE_URL=postgres://picloud@db/picloud picloud migrate
  picloud migrate --data /var/lib/picloud`,
		Args: cobra.NoArgs,
	}
	c.settings(command, c.migrate)
	return command
}

func (c *cli) migrate(ctx context.Context, cfg config.Config) (err error) {
	log := c.logger(cfg)
	url := cfg.DatabaseURL
	if url == "" {
		server, startErr := embedded.Start(ctx, embedded.Config{Dir: cfg.DataDir, BinDir: cfg.PostgresBin, Log: log})
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, server.Stop(context.WithoutCancel(ctx))) }()
		url = server.URL()
	}
	return postgres.Migrate(ctx, url, log)
}

func (c *cli) openapiCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "openapi",
		Short:   "Print the description of the control API as OpenAPI 3.1",
		Long:    "Prints the description of the control API as YAML. It needs no server and no database.",
		Example: "  picloud openapi > openapi.yaml",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			spec, err := api.Spec()
			if err != nil {
				return err
			}
			_, err = c.out.Write(spec)
			return err
		},
	}
}

// versions is what this program is.
type versions struct {
	Product string `json:"product"`
	SDK     string `json:"sdk"`
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := versions{node.Version, picloud.Version}
			return c.print(v, func() grid {
				return grid{rows: [][]string{{"picloud", v.Product}, {"sdk", v.SDK}}}
			})
		},
	}
}
