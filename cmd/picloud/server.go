package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/picloud/picloud/core/config"
	"github.com/picloud/picloud/core/node"
)

func (c *cli) devCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "dev",
		Short: "Run PiCloud here, with a database of its own",
		Long: `Runs PiCloud for work on this machine. It needs no set-up: it starts a Postgres server of its own, makes an app
called "default" that answers on localhost, and a script that greets on /. The words of a script that fails are in the
answer to its caller.

The first start prints the owner's API key. It stays in the file "credentials" in the data folder, where the other
commands find it when they run in this folder.`,
		Example: `  picloud dev
  picloud dev --listen :9000 --admin-listen 127.0.0.1:9001
  picloud dev --data ~/picloud-data`,
		Args: cobra.NoArgs,
	}
	return c.server(command, true)
}

func (c *cli) serveCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "serve",
		Short: "Run PiCloud as a service",
		Long: `Runs PiCloud as a service. With PICLOUD_DATABASE_URL it uses that Postgres, 15 or later; without, it runs one of its
own in the data folder.

The first start on a new database leaves the owner's API key in the file "credentials" in the data folder.`,
		Example: `  picloud serve --data /var/lib/picloud
  PICLOUD_DATABASE_URL=postgres://picloud@db/picloud picloud serve
  picloud serve --config /etc/picloud.yaml --catch-all --log-format json`,
		Args: cobra.NoArgs,
	}
	return c.server(command, false)
}

func (c *cli) server(command *cobra.Command, dev bool) *cobra.Command {
	c.settings(command, func(ctx context.Context, cfg config.Config) error {
		cfg.Dev = dev
		return c.runNode(ctx, cfg)
	})
	return command
}

// settings gives a command the flags of a node's settings, and runs it with the settings as they are then.
func (c *cli) settings(command *cobra.Command, run func(context.Context, config.Config) error) {
	var file string
	config.Flags(command.Flags())
	command.Flags().StringVar(&file, "config", "", "YAML `file` with settings")
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.Load(file, cmd.Flags())
		if err != nil {
			return err
		}
		if cfg.DataDir == "" {
			if cfg.DataDir, err = c.dataDir(); err != nil {
				return err
			}
		}
		if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
			return fmt.Errorf("data folder: %w", err)
		}
		return run(cmd.Context(), cfg)
	}
}

func (c *cli) logger(cfg config.Config) hclog.Logger {
	options := &hclog.LoggerOptions{
		Name: "picloud", Level: hclog.LevelFromString(cfg.LogLevel), Output: c.errs, JSONFormat: cfg.LogFormat == "json",
	}
	if terminal(c.errs) {
		options.Color = hclog.ForceColor
	}
	return hclog.New(options)
}

// launchers sets how a node starts plugins.
func (c *cli) launchers(cfg *config.Config) error {
	if c.launcher != nil {
		cfg.PluginCommand, cfg.PluginLayers = c.launcher, []string{}
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the own program: %w", err)
	}
	cfg.PluginCommand = []string{self, "plugin", "run"}
	return nil
}

// runNode runs a node until ctx ends, then lets it drain.
func (c *cli) runNode(ctx context.Context, cfg config.Config) error {
	if err := c.launchers(&cfg); err != nil {
		return err
	}
	log := c.logger(cfg)
	n := node.New(cfg, log)
	var kept credentials
	n.BeforeServing = func() (err error) { // so that whoever has an answer finds the key
		kept, err = keepCredentials(credentialsFile(cfg.DataDir), credentials{
			URL: "http://" + reachable(n.AdminAddr()), Token: n.OwnerToken(),
		})
		if err != nil {
			return fmt.Errorf("keep the credentials: %w", err)
		}
		return nil
	}
	if err := n.Start(ctx); err != nil {
		if token := n.OwnerToken(); token != "" { // it cannot be read again, so a start that failed later must not lose it
			_, lost := keepCredentials(credentialsFile(cfg.DataDir), credentials{Token: token})
			err = errors.Join(err, lost)
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("%w: stop what listens there, or choose other addresses with --listen and --admin-listen", err)
		}
		return err
	}
	err := c.announce(cfg, n, kept, log)
	if err == nil {
		select {
		case <-ctx.Done():
			log.Info("stopping: runs in progress may end", "at_most", cfg.Drain)
		case <-n.Done():
			err = n.Err()
		}
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Drain)
	defer cancel()
	return errors.Join(err, n.Stop(drain))
}

// announce tells people how to go on.
func (c *cli) announce(cfg config.Config, n *node.Node, kept credentials, log hclog.Logger) error {
	path := credentialsFile(cfg.DataDir)
	if !cfg.Dev {
		log.Info("serving", "public", n.PublicAddr(), "admin", n.AdminAddr(), "credentials", path)
		return nil
	}
	public := "http://" + reachable(n.PublicAddr()) + "/"
	_, err := fmt.Fprintf(c.out, `PiCloud %s is running. Ctrl-C stops it.

  Scripts      %s
  Control API  %s/ (its documentation: /docs)
  Data         %s
`, node.Version, public, kept.URL, cfg.DataDir)
	switch {
	case n.OwnerToken() != "":
		_, err = fmt.Fprintf(c.out, "  API key      %s (shown this once; kept in %s)\n", n.OwnerToken(), path)
	case kept.Token != "":
		_, err = fmt.Fprintf(c.out, "  API key      in %s\n", path)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "\nTry it:\n\n  curl %s\n\n", public)
	return err
}

// reachable is how this machine reaches a listener: one on all addresses is reached on the loopback.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// keepCredentials writes the file, with the token that is there where there is no new one. Without any token there is
// nothing to keep.
func keepCredentials(path string, now credentials) (credentials, error) {
	if now.Token == "" {
		old, err := readCredentials(path)
		if errors.Is(err, os.ErrNotExist) {
			return now, nil
		}
		if err != nil {
			return now, err
		}
		if old.URL == now.URL {
			return old, nil
		}
		now.Token = old.Token
	}
	data, err := json.MarshalIndent(now, "", "  ")
	if err != nil {
		return now, err
	}
	return now, writePrivately(path, append(data, '\n'))
}

// writePrivately replaces a file in one step by one that only its owner can read. A file that was readable before would
// stay so if it were written in place.
func writePrivately(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".credentials-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name()) // what is left of a failure
	}
	return err
}
