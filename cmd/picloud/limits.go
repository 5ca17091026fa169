package main

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/picloud/picloud/cmd/picloud/internal/client"
	"github.com/picloud/picloud/core/api"
)

// limitFlags say what a run may have.
type limitFlags struct {
	limits api.Limits
	cpu    time.Duration
}

func (f *limitFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.Int64Var(&f.limits.MemoryBytes, "memory", 0, "`bytes` of memory")
	flags.DurationVar(&f.cpu, "cpu", 0, "processor `time`")
	flags.IntVar(&f.limits.Goroutines, "goroutines", 0, "goroutines at one time")
	flags.Int64Var(&f.limits.AnswerBytes, "answer", 0, "`bytes` of the answer")
	flags.IntVar(&f.limits.LogLines, "log-lines", 0, "lines logged")
	flags.IntVar(&f.limits.LogBytes, "log-bytes", 0, "`bytes` logged")
	flags.IntVar(&f.limits.Calls, "calls", 0, "calls of services")
}

func (f *limitFlags) read() *api.Limits {
	f.limits.CPUMS = f.cpu.Milliseconds()
	return &f.limits
}

// scriptLimitsCommand changes the limits of a script.
func (c *cli) scriptLimitsCommand() *cobra.Command {
	var f limitFlags
	command := &cobra.Command{
		Use: "limit NAME", Short: "Say what a run of a script may have", Args: cobra.ExactArgs(1),
		Long: `Sets what bounds each run of a script, beside its timeout: a run that takes more fails, with the limit in its error. It replaces
all limits; what is not named is as the app says, or else the platform.`,
		Example: `  picloud scripts limit import --memory 268435456 --cpu 10s`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := call[api.Script](cmd.Context(), c, http.MethodPatch, c.scripts(args[0]), api.ScriptChange{Limits: f.read()})
			if err != nil {
				return c.absentScript(err, args[0])
			}
			return c.print(s, func() grid { return scriptGrid(&s) })
		},
	}
	f.add(command)
	return command
}

// appLimitsCommand changes the limits of an app.
func (c *cli) appLimitsCommand() *cobra.Command {
	var f limitFlags
	command := &cobra.Command{
		Use: "limit SLUG", Short: "Say what runs of an app's scripts may have", Args: cobra.ExactArgs(1),
		Long: `Sets what bounds each run of the app's scripts: it holds for scripts that do not say, and is the most that one may say. It replaces
all limits; what is not named is as the server says.`,
		Example: `  picloud apps limit shop --memory 67108864 --calls 100`,
		RunE: func(cmd *cobra.Command, args []string) error {
			app, err := call[api.App](cmd.Context(), c, http.MethodPut, client.Path("app-limits", args[0]), f.read())
			if err != nil {
				return absentApp(err, args[0])
			}
			return c.print(app, func() grid { return appGrid(&app) })
		},
	}
	f.add(command)
	return command
}

// limitsText is what limits say, as people see it.
func limitsText(l *api.Limits) string {
	text, err := json.Marshal(l)
	if err != nil || string(text) == "{}" {
		return "-"
	}
	return string(text)
}
