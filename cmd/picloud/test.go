package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

type testFlags struct {
	invokeFlags
	name    string
	params  []string
	timeout time.Duration
}

func (c *cli) testCommand() *cobra.Command {
	var f testFlags
	command := &cobra.Command{
		Use: "test FILE...", Short: "Run a script once without deploying it", Args: cobra.MinimumNArgs(1),
		Long: `Compiles a script as deploy does, with the modules of the app, and runs it once on the server, under the limits and in the sandbox that
it would have there. It prints the answer, and on standard error what was logged and what the script asked of the platform, none of
which is done. Nothing is stored. The exit status is 1 unless the script answered with a 2xx.`,
		Example: `  picloud test greet.go --param name=Ada
  picloud test order.ts --body '{"item": 7}' --header 'Content-Type: application/json'
  picloud test order.ts --body @order.json --path '/orders?dry=1' --output json`,
		RunE: func(cmd *cobra.Command, args []string) error { return c.test(cmd.Context(), args, &f) },
	}
	flags := command.Flags()
	flags.StringVarP(&f.body, "body", "b", "", "the body: `text`, @file, or @- for standard input")
	flags.StringVarP(&f.method, "method", "X", "POST", "method that the script sees")
	flags.StringVar(&f.path, "path", "/", "path, and query after a question mark, that the script sees")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "`'Name: value'` that the script sees; may be repeated")
	flags.StringArrayVarP(&f.params, "param", "p", nil, "`name=value` of a route's parameter; may be repeated")
	flags.StringVar(&f.name, "name", "", "`name` of the script whose limits hold (default: that of the first file)")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "stop the run after this, at most 1m")
	return c.inApp(command)
}

func (c *cli) test(ctx context.Context, names []string, f *testFlags) error {
	dir, _ := filepath.Split(names[0])
	files, err := readSources(dir, names)
	if err != nil {
		return err
	}
	request, err := c.request(&f.invokeFlags)
	if err != nil {
		return err
	}
	trial := api.NewTrial{Script: f.name, Files: files, TimeoutMS: f.timeout.Milliseconds(), Request: request, Params: map[string]string{}}
	for _, p := range f.params {
		name, value, ok := strings.Cut(p, "=")
		if !ok {
			return fmt.Errorf("--param is name=value, not %q", p)
		}
		trial.Params[name] = value
	}
	done, err := call[api.Trial](ctx, c, http.MethodPost, client.Path("apps", c.app, "try"), trial)
	if client.Is(err, "compile_error") {
		return c.reportDiagnostics(dir, files, err)
	}
	if err != nil {
		return absentApp(err, c.app)
	}
	return c.printTrial(&done)
}

func (c *cli) printTrial(t *api.Trial) error {
	if c.output == "json" {
		if err := c.print(t, nil); err != nil {
			return err
		}
	} else if err := c.printTrialText(t); err != nil {
		return err
	}
	switch {
	case t.Error != nil && c.output == "json":
		return errReported
	case t.Error != nil:
		detail := strings.TrimSpace(t.Error.Detail)
		if detail != "" {
			detail = "\n" + detail
		}
		return errors.New(t.Error.Message + detail)
	case t.Status/100 != 2:
		return fmt.Errorf("the script answered %d %s", t.Status, http.StatusText(t.Status))
	}
	return nil
}

func (c *cli) printTrialText(t *api.Trial) error {
	var about strings.Builder
	for _, line := range t.Logs {
		fmt.Fprintln(&about, printable(logText(line)))
	}
	for _, asked := range t.Calls {
		fmt.Fprintln(&about, printable(fmt.Sprintf("%s %s (not done)", asked.Service, asked.Arguments)))
	}
	if t.Error == nil {
		fmt.Fprintf(&about, "%d %s in %s\n", t.Status, http.StatusText(t.Status), milliseconds(t.DurationMS))
	}
	if _, err := fmt.Fprint(c.errs, about.String()); err != nil {
		return err
	}
	return c.printResult(api.InvocationResult{Body: t.Body, BodyBase64: t.BodyBase64}, false)
}
