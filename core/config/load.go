package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// secrets may be given as the name of a file that holds them: PICLOUD_DATABASE_URL_FILE.
var secrets = []string{"database_url", "secret_key", "smtp_password"}

// Flags adds a flag for each setting that may be one. The folder for data is not among them: every command has it.
func Flags(flags *pflag.FlagSet) {
	d := Default()
	flags.String("listen", d.Listen, "`address` of the public listener, which serves the routes of scripts")
	flags.String("admin-listen", d.AdminListen, "`address` of the admin listener, which serves the control API")
	flags.String("postgres-bin", d.PostgresBin, "`folder` of initdb and postgres, for a database of its own")
	flags.String("files-dir", d.FilesDir, "`folder` of the contents of files, which all nodes share; empty: files, in the folder for data")
	flags.String("node-name", d.NodeName, "`name` of this node in logs and lists")
	flags.Bool("catch-all", d.CatchAll, `have the app "default" answer for every host that no other app claims`)
	flags.Int("slots", d.Slots, "how many runs of scripts may be in progress at a time")
	flags.Int("sync-waiting", d.SyncWaiting, "how many callers may wait for a slot")
	flags.Int("max-backlog", d.MaxBacklog, "how many events of one app may wait")
	flags.Int64("max-backlog-bytes", d.MaxBacklogBytes, "how many bytes of events of one app may wait")
	flags.Duration("keep-dead-letters", d.KeepDeadLetters, "how long dead letters are kept")
	flags.Duration("keep-executions", d.KeepExecutions, "how long the records of runs are kept")
	flags.Int64("max-history-bytes", d.MaxHistoryBytes, "how many `bytes` the records and kept answers of one app may take over that time")
	flags.Int64("max-body", d.MaxBody, "how many `bytes` the body of a request may have")
	flags.Int64("max-script-memory", d.MaxScriptMemory, "how much memory, in `bytes`, a run of a script may be allowed")
	flags.Duration("max-script-cpu", d.MaxScriptCPU, "how much processor time a run of a script may be allowed")
	flags.Int("max-script-goroutines", d.MaxScriptGoroutines, "how many goroutines a run of a script may be allowed")
	flags.Int64("max-script-answer", d.MaxScriptAnswer, "how many `bytes` the answer of a script may be allowed")
	flags.Int("max-script-log-lines", d.MaxScriptLogLines, "how many lines a run of a script may be allowed to log")
	flags.Int("max-script-log-bytes", d.MaxScriptLogBytes, "how many `bytes` a run of a script may be allowed to log")
	flags.Int("max-script-calls", d.MaxScriptCalls, "how many calls of services a run of a script may be allowed")
	flags.String("http-allow", d.HTTPAllow, "`hosts` at ports, and prefixes, that scripts may reach beside the public web")
	flags.String("smtp-host", d.SMTPHost, "`host` of the mail server for the e-mail of scripts")
	flags.Int("smtp-port", d.SMTPPort, "its `port`; 0: 587, 465 with --smtp-tls tls, 25 with none")
	flags.String("smtp-user", d.SMTPUser, "`user` at the mail server")
	flags.String("smtp-tls", d.SMTPTLS, "how the connection to it is encrypted: starttls, tls or none")
	flags.String("smtp-from", d.SMTPFrom, "`address` of e-mail that does not say who it is from")
	flags.Int("engine-spares", d.EngineSpares, "how many blank engine processes are ready")
	flags.Duration("engine-idle", d.EngineIdle, "how long an engine process without runs is kept")
	flags.Int64("engine-runs", d.EngineRuns, "after how many runs an engine process is replaced")
	flags.Int64("engine-memory", d.EngineMemory, "at how many `bytes` of its own memory an engine process is replaced")
	flags.Duration("engine-age", d.EngineAge, "at which age an engine process is replaced")
	flags.Int("engine-losses", d.EngineLosses, "how often a version of a script may end its process before it is quarantined")
	flags.Duration("drain", d.Drain, "how long to let runs in progress go on when told to stop")
	flags.Bool("require-isolation", d.RequireIsolation, "start only if every layer of isolation holds: see `picloud doctor`")
	flags.String("log-level", d.LogLevel, "trace, debug, info, warn, error or off")
	flags.String("log-format", d.LogFormat, "text or json")
}

// layer is one place that settings come from.
type layer struct {
	values map[string]any
	name   func(key string) string // how the place spells a setting
}

// Load returns the defaults, overruled by the YAML file if there is one, by the environment, and by the flags that were
// given, in this order. flags may hold others than those of Flags. The error is one line that names the place and the
// setting.
func Load(file string, flags *pflag.FlagSet) (Config, error) {
	keys := keysOf(reflect.TypeFor[Config]())
	merged, cfg, from := koanf.New("."), Default(), map[string]string{}
	for _, read := range []func([]string) (layer, error){
		func(keys []string) (layer, error) { return readFile(file, keys) },
		readEnvironment,
		func(keys []string) (layer, error) { return readFlags(flags, keys), nil },
	} {
		l, err := read(keys)
		if err != nil {
			return Config{}, err
		}
		if err := merged.Load(confmap.Provider(l.values, ""), nil); err != nil {
			return Config{}, fmt.Errorf("merge settings: %w", err)
		}
		for key := range l.values {
			from[key] = l.name(key)
		}
	}
	err := merged.UnmarshalWithConf("", &cfg, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{DecodeHook: parse}})
	if failed := (*mapstructure.DecodeError)(nil); errors.As(err, &failed) {
		return Config{}, fmt.Errorf("%s: %w", from[failed.Name()], failed.Unwrap())
	}
	if err != nil {
		return Config{}, fmt.Errorf("read settings: %w", err)
	}
	err = cfg.validate()
	if wrong := (*invalid)(nil); errors.As(err, &wrong) {
		if place := from[wrong.key]; place != "" {
			return Config{}, fmt.Errorf("%s: %w", place, err)
		}
		return Config{}, fmt.Errorf("%s: %w", wrong.key, err)
	}
	return cfg, nil
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for field := range t.Fields() {
		if key := field.Tag.Get("koanf"); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

func readFile(path string, keys []string) (layer, error) {
	l := layer{map[string]any{}, func(key string) string { return path + ": " + key }}
	if path == "" {
		return l, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return l, fmt.Errorf("configuration file: %w", err)
	}
	values, err := yaml.Parser().Unmarshal(data)
	if err != nil {
		return l, fmt.Errorf("%s: %s", path, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	for key, value := range values {
		if !slices.Contains(keys, key) {
			return l, fmt.Errorf("%s: there is no setting %q", path, key)
		}
		switch value.(type) {
		case nil, map[string]any, []any:
			return l, fmt.Errorf("%s: %s: one plain value is needed", path, key)
		}
		l.values[key] = fmt.Sprint(value) // parsed as in the other places: 30 is no duration here either
	}
	return l, nil
}

// readEnvironment leaves unknown variables alone: the command line's own ones begin with PICLOUD_ too, and so do those
// that Kubernetes makes for a service called picloud.
func readEnvironment(keys []string) (layer, error) {
	name := func(key string) string { return "PICLOUD_" + strings.ToUpper(key) }
	l := layer{map[string]any{}, name}
	for _, key := range keys {
		value, set := os.LookupEnv(name(key))
		if slices.Contains(secrets, key) {
			if path := os.Getenv(name(key) + "_FILE"); path != "" {
				if set {
					return l, fmt.Errorf("%s and %s_FILE are both set, and only one can hold", name(key), name(key))
				}
				data, err := os.ReadFile(path)
				if err != nil {
					return l, fmt.Errorf("%s_FILE: %w", name(key), err)
				}
				value, set = strings.TrimSpace(string(data)), true
			}
		}
		if set {
			l.values[key] = value
		}
	}
	return l, nil
}

func readFlags(flags *pflag.FlagSet, keys []string) layer {
	l := layer{map[string]any{}, func(key string) string { return "--" + strings.ReplaceAll(key, "_", "-") }}
	flags.Visit(func(f *pflag.Flag) {
		if key := strings.ReplaceAll(f.Name, "-", "_"); slices.Contains(keys, key) {
			l.values[key] = f.Value.String()
		}
	})
	return l
}

// parse reads a text as the type of its setting. Nothing is guessed: 1.5 is no whole number, yes is not true.
func parse(_, to reflect.Type, data any) (any, error) {
	text, ok := data.(string)
	if !ok {
		return data, nil
	}
	switch {
	case to == reflect.TypeFor[time.Duration]():
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a duration, such as 30s or 1m30s", text)
		}
		return d, nil
	case to.Kind() == reflect.Int || to.Kind() == reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", text)
		}
		return n, nil
	case to.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%q is neither true nor false", text)
		}
		return b, nil
	}
	return text, nil
}
