package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/tenant"
)

type deployFlags struct {
	name     string
	module   bool
	routes   []string
	host     string
	async    bool
	timeout  time.Duration
	attempts int

	transactional *bool
	note          string
}

func (c *cli) deployCommand() *cobra.Command {
	var f deployFlags
	command := &cobra.Command{
		Use:   "deploy FILE...",
		Short: "Upload a script and route requests to it",
		Long: `Uploads a script as a new version, which runs from then on, and makes the routes that are missing. All of it happens
in one step: nothing changes if the script does not compile. The script is made if it is missing; the app must be there.

The first file is the entry point; the others are those that belong to it, from its folder or below. A Go script is all of
them together; a Starlark script loads the others as "./name.star".

With --module a new script is a module: scripts of the same app and language import it as "app/name". Its new version runs in
all of them at once, and is refused if one of them does not compile with it.`,
		Example: `  picloud deploy hello.go --route 'GET /hello/{name}'
  picloud deploy order.go --app shop --route 'POST /orders' --async --max-attempts 10
  picloud deploy hello.go --note 'greet in Latin'
  picloud deploy shop.go prices.go
  picloud deploy greet.go --module
  picloud deploy hello.wasm --route 'GET /hello/{name}'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("transactional") {
				on, err := cmd.Flags().GetBool("transactional")
				if err != nil {
					return err
				}
				f.transactional = &on
			}
			return c.deploy(cmd.Context(), args, f)
		},
	}
	flags := command.Flags()
	flags.StringVar(&f.name, "name", "", "`name` of the script (default: that of the first file)")
	flags.BoolVar(&f.module, "module", false, "make a module, which other scripts import")
	flags.StringArrayVar(&f.routes, "route", nil, "`'METHOD /path'` that leads to the script; may be repeated")
	flags.StringVar(&f.host, "host", "", "`host` of the routes (default: every host of the app)")
	flags.BoolVar(&f.async, "async", false, "answer 202 at once and run the script later, again if it fails")
	flags.DurationVar(&f.timeout, "timeout", 0, "stop a run after this (default: unchanged; 30s for a new script)")
	flags.Bool("transactional", false, "have its writes take effect together, at the end of a run that succeeds; =false takes that back (default: unchanged)")
	flags.IntVar(&f.attempts, "max-attempts", 0, "`times` that an asynchronous event is tried (default: unchanged; 5 for a new script)")
	flags.StringVar(&f.note, "note", "", "why there is a new version")
	return c.inApp(command)
}

func (c *cli) deploy(ctx context.Context, paths []string, f deployFlags) error {
	dir, base := filepath.Split(paths[0])
	files, err := readSources(dir, paths)
	if err != nil {
		return err
	}
	request := api.NewDeployment{
		Transactional: f.transactional,
		Script:        first(f.name, strings.TrimSuffix(base, filepath.Ext(base))), TimeoutMS: f.timeout.Milliseconds(),
		MaxAttempts: f.attempts, Note: f.note, Files: files,
	}
	if f.module {
		request.Kind = tenant.KindModule
	}
	for _, text := range f.routes {
		method, pattern := splitRoute(text)
		request.Routes = append(request.Routes, api.DeployRoute{
			Method: method, Pattern: pattern, Host: f.host, Mode: mode(f.async),
		})
	}
	done, err := call[api.Deployed](ctx, c, http.MethodPost, client.Path("apps", c.app, "deploy"), request)
	if client.Is(err, "not_found") { // not made here: a mistyped name would be an app
		return fmt.Errorf("there is no app %q: make it with `picloud apps create %s`", c.app, c.app)
	}
	if client.Is(err, "compile_error") {
		return c.reportDiagnostics(dir, files, err)
	}
	if err != nil {
		return err
	}
	return c.print(done, func() grid {
		g := grid{rows: [][]string{
			{"script", done.Script.Name},
			{"version", fmt.Sprint(done.Version.Number)},
			{"release", fmt.Sprint(done.Release)},
		}}
		for _, r := range done.Routes {
			g.rows = append(g.rows, []string{"route", routeText(r)})
		}
		return g
	})
}

// readSources reads files by names relative to dir, in which they are, or below.
func readSources(dir string, paths []string) ([]api.SourceFile, error) {
	files := make([]api.SourceFile, len(paths))
	for i, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		name, err := filepath.Rel(first(dir, "."), path)
		if err != nil || !filepath.IsLocal(name) {
			return nil, fmt.Errorf("%s is not in the folder of %s, or below", path, paths[0])
		}
		files[i] = api.NewSourceFile(filepath.ToSlash(name), source)
	}
	return files, nil
}

// reportDiagnostics prints where sources are wrong as compilers do, for editors to find, and returns what there is to say
// beyond. dir is where files are; what is wrong may also be in others, which the server has.
func (c *cli) reportDiagnostics(dir string, files []api.SourceFile, err error) error {
	failed := (*client.Error)(nil)
	if !errors.As(err, &failed) || len(failed.Errors) == 0 {
		return err
	}
	for _, d := range failed.Errors {
		place := d.Location
		name, _, _ := strings.Cut(place, ":")
		if slices.ContainsFunc(files, func(f api.SourceFile) bool { return f.Name == name }) {
			place = filepath.Join(dir, place)
		}
		if _, err := fmt.Fprintf(c.errs, "%s: %s\n", printable(place), printable(d.Message)); err != nil {
			return err
		}
	}
	if failed.Detail == failed.Errors[0].Location+": "+failed.Errors[0].Message {
		return errReported
	}
	return errors.New(failed.Detail)
}

// splitRoute takes 'METHOD /path' apart. Without a method the route answers every one.
func splitRoute(text string) (method, pattern string) {
	method, pattern, ok := strings.Cut(strings.TrimSpace(text), " ")
	if !ok {
		return "", method
	}
	return method, strings.TrimSpace(pattern)
}

func mode(async bool) string {
	if async {
		return "async"
	}
	return "sync"
}

func routeText(r api.Route) string {
	text := r.Method + " " + r.Host + r.Pattern
	if r.Mode == "async" {
		text += " (async)"
	}
	return text
}
