package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "picloud.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func parsed(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.String("data", "", "")
	flags.String("url", "", "a flag that is no setting")
	Flags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags
}

// Every setting that may come from a flag has one, and its default there is the default.
func TestFlagsAreTheSettings(t *testing.T) {
	t.Parallel()
	flags := parsed(t)
	all := flags.Args()
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "url" && f.Name != "data" {
			all = append(all, "--"+f.Name+"="+f.DefValue)
		}
	})
	got, err := Load("", parsed(t, all...))
	if err != nil {
		t.Fatal(err)
	}
	if want := Default(); !reflect.DeepEqual(got, want) || len(all) != 37 {
		t.Errorf("with all of %d flags at their defaults: %+v, want %+v", len(all), got, want)
	}
}

func TestLayers(t *testing.T) {
	t.Setenv("PICLOUD_SLOTS", "3")
	t.Setenv("PICLOUD_DRAIN", "3s")
	t.Setenv("PICLOUD_DATABASE_URL_FILE", write(t, "postgres://user:secret@db/x\n"))
	t.Setenv("PICLOUD_PORT", "tcp://10.0.0.1:80")
	file := write(t, "slots: 2\ndrain: 2s\nmax_body: 1000\ncatch_all: true\nnode_name: \"7\"\n")
	got, err := Load(file, parsed(t, "--drain=4s", "--url=x", "--data=/srv/p"))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Slots, want.Drain, want.MaxBody, want.CatchAll, want.NodeName = 3, 4*time.Second, 1000, true, "7"
	want.DatabaseURL, want.DataDir = "postgres://user:secret@db/x", "/srv/p"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestWrongValuesStopTheStart(t *testing.T) {
	for _, test := range []struct {
		name string
		file string
		env  map[string]string
		args []string
		want string
	}{
		{"no number", "", map[string]string{"PICLOUD_SLOTS": "many"}, nil, `PICLOUD_SLOTS: "many" is not a whole number`},
		{"a fraction", "slots: 1.5", nil, nil, `: slots: "1.5" is not a whole number`},
		{"out of range", "", nil, []string{"--slots=0"}, `--slots: 0 is not between 1 and 4096`},
		{"a body over the limit", "max_body: 6291457", nil, nil, `: max_body: 6291457 is not between 1 and 6291456`},
		{"no unit", "drain: 30", nil, nil, `: drain: "30" is not a duration, such as 30s or 1m30s`},
		{"a negative time", "", nil, []string{"--drain=-1s"}, `--drain: -1s is not between 0s and 10m0s`},
		{"a time too short", "keep_dead_letters: 1m", nil, nil, `: keep_dead_letters: 1m0s is not between 1h0m0s and 8784h0m0s`},
		{"not a truth", "", map[string]string{"PICLOUD_CATCH_ALL": "yes"}, nil, `PICLOUD_CATCH_ALL: "yes" is neither true nor false`},
		{"an empty variable", "", map[string]string{"PICLOUD_LISTEN": ""}, nil, `PICLOUD_LISTEN: "" is not host:port, such as 127.0.0.1:8080 or :8080`},
		{"a port by name", "listen: localhost:http", nil, nil, `: listen: "localhost:http" is not host:port, such as 127.0.0.1:8080 or :8080`},
		{"a level", "", nil, []string{"--log-level=loud"}, `--log-level: "loud" is none of trace, debug, info, warn, error, off`},
		{"a format", "", nil, []string{"--log-format=xml"}, `--log-format: "xml" is none of text, json`},
		{"a typing error", "slotz: 3", nil, nil, `: there is no setting "slotz"`},
		{"what the program sets", "dev: true", nil, nil, `: there is no setting "dev"`},
		{"no value", "slots:", nil, nil, `: slots: one plain value is needed`},
		{"a list", "slots: [1, 2]", nil, nil, `: slots: one plain value is needed`},
		{"not YAML", "slots: [", nil, nil, `: yaml: `},
		{
			"two places for one secret", "",
			map[string]string{"PICLOUD_DATABASE_URL": "x", "PICLOUD_DATABASE_URL_FILE": "y"},
			nil,
			`PICLOUD_DATABASE_URL and PICLOUD_DATABASE_URL_FILE are both set, and only one can hold`,
		},
		{
			"a secret's file is missing", "",
			map[string]string{"PICLOUD_DATABASE_URL_FILE": "/nowhere"},
			nil,
			`PICLOUD_DATABASE_URL_FILE: open /nowhere: no such file or directory`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			file := ""
			if test.file != "" {
				file = write(t, test.file)
			}
			_, err := Load(file, parsed(t, test.args...))
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error = %v, want one line with %s", err, test.want)
			}
		})
	}
}
