package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/postgres/embedded"
)

// cli is what the commands share: the streams, and the flags that all of them have.
type cli struct {
	in        io.Reader
	out, errs io.Writer

	data   string
	url    string
	token  string
	output string
	app    string // of the commands that work in an app

	begun bool // a command does what it is for: flags and arguments are as it takes them

	launcher []string // starts a built-in plugin without isolation, its name is appended; empty: this program does, with all there is
}

const (
	groupServer = "server"
	groupClient = "client"
)

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "picloud",
		Short: "Upload a script, get an HTTP endpoint",
		Long: `PiCloud runs scripts behind HTTP endpoints and on events, and loses nothing that it accepted.

Start it with "picloud dev", then deploy a script from another terminal, in the same folder.`,
		Example: `  picloud dev
  picloud deploy hello.go --route 'GET /hello/{name}'
  curl localhost:8080/hello/Ada
  picloud logs hello`,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if c.output != "table" && c.output != "json" {
				return fmt.Errorf("--output is table or json, not %q", c.output)
			}
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&c.data, "data", "", "`folder` for the database and the credentials (default .picloud here, or one kept for this folder)")
	flags.StringVar(&c.url, "url", "", "`address` of the server's admin listener (default: PICLOUD_URL, or as in the credentials file)")
	flags.StringVar(&c.token, "token", "", "API `key` (default: PICLOUD_TOKEN, or as in the credentials file)")
	flags.StringVar(&c.output, "output", "table", "`form` of what is printed: table or json")

	root.AddGroup(
		&cobra.Group{ID: groupServer, Title: "Run a server:"},
		&cobra.Group{ID: groupClient, Title: "Work with a server:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, command := range commands {
			command.GroupID = group
			root.AddCommand(command)
		}
	}
	add(groupServer, c.devCommand(), c.serveCommand(), c.doctorCommand(), c.migrateCommand(), c.openapiCommand(), c.pluginCommand())
	add(groupClient, c.deployCommand(), c.testCommand(), c.typesCommand(), c.invokeCommand(), c.logsCommand(), c.appsCommand(), c.domainsCommand(),
		c.scriptsCommand(), c.routesCommand(), c.queuesCommand(), c.triggersCommand(), c.sinksCommand(), c.sourcesCommand(), c.secretsCommand(), c.releasesCommand(), c.executionsCommand(), c.entriesCommand(),
		c.deadLettersCommand(), c.whoamiCommand())
	root.AddCommand(c.versionCommand())
	c.notice(root)
	return root
}

// notice has a command, and those below it, say that they have begun.
func (c *cli) notice(command *cobra.Command) {
	if run := command.RunE; run != nil {
		command.RunE = func(cmd *cobra.Command, args []string) error {
			c.begun = true
			return run(cmd, args)
		}
	}
	for _, below := range command.Commands() {
		c.notice(below)
	}
}

// group is a command that only holds others.
func group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	command := &cobra.Command{Use: use, Short: short, Example: example, Args: noCommand}
	command.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	command.AddCommand(commands...)
	return command
}

// noCommand refuses what should be the name of one of a command's own, and says which may be meant.
func noCommand(command *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	text := fmt.Sprintf("unknown command %q for %q", args[0], command.CommandPath())
	command.SuggestionsMinimumDistance = 2
	if near := command.SuggestionsFor(args[0]); len(near) > 0 {
		text += " (did you mean " + strings.Join(near, " or ") + "?)"
	}
	return errors.New(text)
}

// inApp gives a command and those below it the flag for the app.
func (c *cli) inApp(command *cobra.Command) *cobra.Command {
	command.PersistentFlags().StringVar(&c.app, "app", "default", "`slug` or id of the app")
	return command
}

// dataDir is the folder that --data or its environment variable names, or the one that belongs to the working folder.
func (c *cli) dataDir() (string, error) {
	if c.data != "" {
		return c.data, nil
	}
	if dir := os.Getenv("PICLOUD_DATA"); dir != "" {
		return dir, nil
	}
	working, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("working folder: %w", err)
	}
	return embedded.DefaultDir(working)
}

// credentials are how a client reaches a server. A server leaves them in its data folder.
type credentials struct {
	URL   string `json:"url"`
	Token string `json:"token"`
}

func credentialsFile(dir string) string { return filepath.Join(dir, "credentials") }

func readCredentials(path string) (credentials, error) {
	var found credentials
	data, err := os.ReadFile(path)
	if err != nil {
		return found, err
	}
	if err := json.Unmarshal(data, &found); err != nil {
		return found, fmt.Errorf("%s is not a credentials file: %w", path, err)
	}
	return found, nil
}

// client finds the server: flags go before the environment, that goes before the credentials file.
func (c *cli) client() (*client.Client, error) {
	given := credentials{URL: first(c.url, os.Getenv("PICLOUD_URL")), Token: first(c.token, os.Getenv("PICLOUD_TOKEN"))}
	if given.URL != "" && given.Token != "" {
		return &client.Client{URL: given.URL, Token: given.Token}, nil
	}
	dir, err := c.dataDir()
	if err != nil {
		return nil, err
	}
	path := credentialsFile(dir)
	found, err := readCredentials(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there are no credentials in %s: start `picloud dev` in this folder, name its folder with --data, or give --url and --token", dir)
	}
	if err != nil {
		return nil, err
	}
	// A token is for one server: it must not go to another one because only the address was given.
	if given.Token == "" && given.URL != "" && given.URL != found.URL {
		return nil, fmt.Errorf("there is no token for %s: give it with --token or PICLOUD_TOKEN", given.URL)
	}
	return &client.Client{URL: first(given.URL, found.URL), Token: first(given.Token, found.Token)}, nil
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// call sends one request and decodes the answer into a T.
func call[T any](ctx context.Context, c *cli, method, path string, in any) (T, error) {
	var out T
	server, err := c.client()
	if err != nil {
		return out, err
	}
	err = server.Do(ctx, method, path, nil, in, &out)
	return out, err
}

// read gets what a query asks for.
func read[T any](ctx context.Context, c *cli, path string, query url.Values) (T, error) {
	var out T
	server, err := c.client()
	if err != nil {
		return out, err
	}
	err = server.Do(ctx, http.MethodGet, path, query, nil, &out)
	return out, err
}

// remove sends a request that has no answer.
func (c *cli) remove(ctx context.Context, path string) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	return server.Do(ctx, http.MethodDelete, path, nil, nil, nil)
}

// pageSize is how much of a list the API gives at a time.
const pageSize = 200

// list reads a list, page after page, up to limit items; 0 is all of them.
func list[T any](ctx context.Context, c *cli, path string, query url.Values, limit int) ([]T, error) {
	server, err := c.client()
	if err != nil {
		return nil, err
	}
	items := []T{}
	if query == nil {
		query = url.Values{}
	}
	for {
		size := pageSize
		if limit > 0 {
			size = min(size, limit-len(items))
		}
		query.Set("limit", fmt.Sprint(size))
		var page api.Page[T]
		if err := server.Do(ctx, http.MethodGet, path, query, nil, &page); err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.NextCursor == "" || limit > 0 && len(items) >= limit {
			return items, nil
		}
		query.Set("cursor", page.NextCursor)
	}
}

// absent makes a server's "not found", or that this can be the name of nothing, say what was looked for and where to look. Other errors
// stay as they are.
func absent(err error, what, see string) error {
	if client.Is(err, "not_found") || client.InPath(err) {
		return fmt.Errorf("there is no %s: see `picloud %s`", what, see)
	}
	return err
}
