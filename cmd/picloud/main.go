// Command picloud is the whole platform in one binary: the server, its built-in plugins, and the commands that deploy and
// watch scripts. It is thin: a command reads flags, then starts core/node or calls the control API.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The first signal asks for an orderly end. From then on signals do what they do to any process, so the second one
	// ends it at once; the database server and the plugins end with it.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// errReported is a failure that has been explained already.
var errReported = errors.New("reported")

// run is main without the process: it returns the exit status.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	c := &cli{in: in, out: out, errs: errs}
	return c.run(ctx, args)
}

func (c *cli) run(ctx context.Context, args []string) int {
	errs := c.errs
	root := c.rootCommand()
	root.SetArgs(args)
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(errs)
	command, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
	case errors.Is(err, context.Canceled):
		_, _ = fmt.Fprintln(errs, "picloud: interrupted")
	case !c.begun:
		_, _ = fmt.Fprintf(errs, "picloud: %s: see `%s --help`\n", printableLines(err.Error()), command.CommandPath())
	default:
		_, _ = fmt.Fprintln(errs, "picloud:", printableLines(err.Error()))
	}
	return 1
}
