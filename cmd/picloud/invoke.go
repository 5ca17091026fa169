package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

type invokeFlags struct {
	method  string
	path    string
	headers []string
	body    string
	async   bool
}

func (c *cli) invokeCommand() *cobra.Command {
	var f invokeFlags
	command := &cobra.Command{
		Use:   "invoke NAME",
		Short: "Call a script, with or without a route to it",
		Long: `Calls a script and prints the body of its answer. The exit status is 1 unless the script answered with a 2xx.
With --async it prints the id of the execution instead: the script runs later, and again if it fails.`,
		Example: `  picloud invoke hello
  picloud invoke order --body '{"item": 7}' --header 'Content-Type: application/json'
  picloud invoke order --body @order.json --path '/orders?dry=1'
  gzip -dc orders.gz | picloud invoke import --body @- --async`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.invoke(cmd.Context(), args[0], f) },
	}
	flags := command.Flags()
	flags.StringVarP(&f.body, "body", "b", "", "the body: `text`, @file, or @- for standard input")
	flags.StringVarP(&f.method, "method", "X", "POST", "method that the script sees")
	flags.StringVar(&f.path, "path", "/", "path, and query after a question mark, that the script sees")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "`'Name: value'` that the script sees; may be repeated")
	flags.BoolVar(&f.async, "async", false, "do not wait for the script")
	return c.inApp(command)
}

func (c *cli) invoke(ctx context.Context, name string, f invokeFlags) error {
	request, err := c.request(&f)
	if err != nil {
		return err
	}
	result, err := call[api.InvocationResult](ctx, c, http.MethodPost, client.Path("apps", c.app, "scripts", name, "invoke"), request)
	if err != nil {
		return fmt.Errorf("invoke %s: %w", name, c.absentScript(err, name))
	}
	if err := c.printResult(result, f.async); err != nil {
		return err
	}
	if result.Status/100 != 2 {
		return fmt.Errorf("%s answered %d %s: see `picloud executions show %s`",
			name, result.Status, http.StatusText(result.Status), result.ExecutionID)
	}
	return nil
}

// request makes a request of what the flags say.
func (c *cli) request(f *invokeFlags) (api.NewInvocation, error) {
	body, err := c.readBody(f.body)
	if err != nil {
		return api.NewInvocation{}, err
	}
	request := api.NewInvocation{Method: f.method, BodyBase64: body, Async: f.async}
	request.Path, request.Query, _ = strings.Cut(f.path, "?")
	for _, header := range f.headers {
		name, value, ok := strings.Cut(header, ":")
		if !ok {
			return request, fmt.Errorf("--header is 'Name: value', not %q", header)
		}
		request.Headers = append(request.Headers, api.Header{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
	}
	return request, nil
}

func (c *cli) printResult(result api.InvocationResult, async bool) error {
	switch {
	case c.output == "json":
		return c.print(result, nil)
	case async:
		_, err := fmt.Fprintln(c.out, result.ExecutionID)
		return err
	}
	body := result.BodyBase64
	if body == nil {
		body = []byte(result.Body)
	}
	if _, err := c.out.Write(body); err != nil {
		return err
	}
	if terminal(c.out) && len(body) > 0 && body[len(body)-1] != '\n' {
		_, err := fmt.Fprintln(c.out)
		return err
	}
	return nil
}

// readBody reads what --body names.
func (c *cli) readBody(named string) ([]byte, error) {
	file, ok := strings.CutPrefix(named, "@")
	switch {
	case !ok:
		return []byte(named), nil
	case file == "-":
		return io.ReadAll(c.in)
	}
	return os.ReadFile(file)
}

// absentScript explains that a script was not found.
func (c *cli) absentScript(err error, name string) error {
	return absent(err, fmt.Sprintf("script %q in app %q", name, c.app), "scripts ls --app "+c.app)
}
