package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Each command sends what the control API expects, and nothing else.
func TestCommandsSendTheirRequest(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "hello.go")
	if err := os.WriteFile(file, []byte("package main\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	more := filepath.Join(filepath.Dir(file), "lib", "more.go")
	if err := errors.Join(os.Mkdir(filepath.Dir(more), 0o700), os.WriteFile(more, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args string
		want string // request line
		body string // what the body has in it
	}{
		{"apps ls", "GET /api/v1/apps?limit=200", ""},
		{"apps show shop", "GET /api/v1/apps/shop", ""},
		{"apps limit shop --memory 67108864 --calls 9", "PUT /api/v1/app-limits/shop", `{"memory_bytes":67108864,"calls":9}`},
		{"apps weigh shop 4", "PUT /api/v1/app-weights/shop", `{"weight":4}`},
		{"apps create shop --name Shop", "POST /api/v1/apps", `"slug":"shop","name":"Shop"`},
		{"apps delete shop --yes", "DELETE /api/v1/apps/shop", ""},
		{"domains ls --app shop", "GET /api/v1/apps/shop/domains?limit=200", ""},
		{"domains add *.x.test --app shop", "POST /api/v1/apps/shop/domains", `"host":"*.x.test"`},
		{"domains rm *.x.test", "DELETE /api/v1/apps/default/domains/%2A.x.test", ""},
		{"scripts ls", "GET /api/v1/apps/default/scripts?limit=200", ""},
		{"scripts show a/b", "GET /api/v1/apps/default/scripts/a%2Fb", ""},
		{"scripts versions hello", "GET /api/v1/apps/default/scripts/hello/versions?limit=200", ""},
		{"scripts activate hello 2", "POST /api/v1/apps/default/scripts/hello/versions/2/activate", ""},
		{"scripts delete hello", "DELETE /api/v1/apps/default/scripts/hello", ""},
		{"routes ls", "GET /api/v1/apps/default/routes?limit=200", ""},
		{"routes add /x --script hello --async", "POST /api/v1/apps/default/routes", `"mode":"async"`},
		{"routes rm 0192f0c1-2d4b-7c3e-8f00-000000000001", "DELETE /api/v1/apps/default/routes/0192f0c1-2d4b-7c3e-8f00-000000000001", ""},
		{"releases ls --limit 3", "GET /api/v1/apps/default/releases?limit=3", ""},
		{"releases show 3", "GET /api/v1/apps/default/releases/3", ""},
		{"releases activate 3", "POST /api/v1/apps/default/releases/3/activate", ""},
		{"executions ls --script hello --outcome failed", "GET /api/v1/apps/default/executions?limit=50&outcome=failed&script=hello", ""},
		{"executions show 0192", "GET /api/v1/apps/default/executions/0192", ""},
		{"logs hello", "GET /api/v1/apps/default/executions?limit=20&script=hello", ""},
		{"entries show 0192", "GET /api/v1/apps/default/entries/0192", ""},
		{"dead-letters ls", "GET /api/v1/apps/default/dead-letters?limit=50&unresolved=true", ""},
		{"dead-letters show 0192", "GET /api/v1/apps/default/dead-letters/0192", ""},
		{"dead-letters replay 0192", "POST /api/v1/apps/default/dead-letters/0192/replay", ""},
		{"dead-letters ls --script order --reason fatal --all", "GET /api/v1/apps/default/dead-letters?limit=50&reason=fatal&script=order", ""},
		{"dead-letters groups", "GET /api/v1/apps/default/dead-letter-groups?unresolved=true", ""},
		{"dead-letters count --cause abc", "GET /api/v1/apps/default/dead-letter-count?cause=abc&unresolved=true", ""},
		{"dead-letters replay 0192 --body x", "POST /api/v1/apps/default/dead-letters/0192/replay", `"body_base64":"eA=="`},
		{"dead-letters replay 0192 --body=", "POST /api/v1/apps/default/dead-letters/0192/replay", `"body":""`},
		{"dead-letters replay-all --text boom --rate 7", "POST /api/v1/apps/default/replays", `"rate":7`},
		{"dead-letters resolve-all --cause abc", "POST /api/v1/apps/default/dead-letter-resolutions", `"cause":"abc"`},
		{"queues ls", "GET /api/v1/apps/default/queues?limit=200", ""},
		{"queues create mail --script m --rate 10/1m", "POST /api/v1/apps/default/queues", `"per":"1m"`},
		{"queues update mail --concurrency 2", "PATCH /api/v1/apps/default/queues/mail", `"concurrency":2`},
		{"queues send mail --body x --delay 5s", "POST /api/v1/apps/default/queues/mail/messages", `"delay":"5s"`},
		{"queues pause mail", "POST /api/v1/apps/default/queues/mail/pause", ""},
		{"triggers http t --route 0192f0c1-2d4b-7c3e-8f00-000000000001", "POST /api/v1/apps/default/triggers", `"kind":"http"`},
		{"triggers dead-letter t --script s --of a,b", "POST /api/v1/apps/default/triggers", `"scripts":["a","b"]`},
		{"triggers create t --kind kv --script s --collection a* --op create,delete --when data.n>1.0", "POST /api/v1/apps/default/triggers", `"ops":["create","delete"],"when":"data.n\u003e1.0"`},
		{"triggers create t --kind pubsub --script s --topic a.* --attempts 3", "POST /api/v1/apps/default/triggers", `"policy":{"max_attempts":3}`},
		{"triggers create t --kind cron --script s --schedule @daily --time-zone Asia/Tokyo", "POST /api/v1/apps/default/triggers", `"schedule":"@daily","time_zone":"Asia/Tokyo"`},
		{"triggers next t --count 3", "GET /api/v1/apps/default/triggers/t/next?count=3", ""},
		{"triggers fire t --body x --key k", "POST /api/v1/apps/default/triggers/t/fire", `{"key":"k","data":"x"}`},
		{"triggers disable t", "PATCH /api/v1/apps/default/triggers/t", `"enabled":false`},
		{"scripts policy s --concurrency 1", "PATCH /api/v1/apps/default/scripts/s", `"concurrency":1`},
		{"scripts resume s", "POST /api/v1/apps/default/scripts/s/resume", ""},
		{"apps pause default", "POST /api/v1/apps/default/pause", ""},
		{"entries ls --queue mail", "GET /api/v1/apps/default/entries?limit=50&queue=mail", ""},
		{"entries explain 0192", "GET /api/v1/apps/default/entries/0192/explain", ""},
		{"entries cancel 0192", "POST /api/v1/apps/default/entries/0192/cancel", ""},
		{"entries cancel-all --queue mail", "POST /api/v1/apps/default/entries/cancel", `"queue":"mail"`},
		{"dead-letters resolve 0192", "POST /api/v1/apps/default/dead-letters/0192/resolve", `"resolution":"ignored"`},
		{"deploy " + file, "POST /api/v1/apps/default/deploy", `"script":"hello"`},
		{"deploy " + file + " --route /x --timeout 10s --name n", "POST /api/v1/apps/default/deploy", `"timeout_ms":10000`},
		{"deploy " + file + " " + more + " --module", "POST /api/v1/apps/default/deploy", `"name":"lib/more.go"`},
		{"invoke hello --path /a?b=c -H X:y", "POST /api/v1/apps/default/scripts/hello/invoke", `"query":"b=c"`},
		{"secrets ls --app shop", "GET /api/v1/apps/shop/secrets?limit=200", ""},
		{"secrets set KEY", "POST /api/v1/apps/default/secrets", `{"name":"KEY","value":""}`},
		{"secrets rm KEY", "DELETE /api/v1/apps/default/secrets/KEY", ""},
		{"secrets rotate", "POST /api/v1/secrets/rotate", ""},
		{"whoami", "GET /api/v1/whoami", ""},
	} {
		t.Run(test.want, func(t *testing.T) {
			t.Parallel()
			var requests []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				requests = append(requests, r.Method+" "+r.URL.RequestURI())
				if !strings.Contains(string(body), test.body) {
					t.Errorf("body %s, want %s in it", body, test.body)
				}
				_, _ = io.WriteString(w, "{}")
			}))
			var out, errs bytes.Buffer
			args := append(strings.Fields(test.args), "--url", server.URL, "--token", "pic_x", "--output", "json")
			run(t.Context(), args, strings.NewReader(""), &out, &errs)
			server.Close() // no handler runs any more
			if len(requests) != 1 || requests[0] != test.want {
				t.Errorf("requests %q (%s), want %q", requests, errs.String(), test.want)
			}
		})
	}
}

// Every command says in a line what it is for, and does something.
func TestHelp(t *testing.T) {
	t.Parallel()
	var check func(command *cobra.Command)
	check = func(command *cobra.Command) {
		if command.Short == "" || !command.Runnable() {
			t.Errorf("%s has no help, or does nothing", command.CommandPath())
		}
		for _, below := range command.Commands() {
			check(below)
		}
	}
	for _, command := range (&cli{}).rootCommand().Commands() {
		check(command)
	}
}

// A command that is not typed as it has to be says in one line what is wrong, and where it says how.
func TestWrongUse(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"scripts show":           "accepts 1 arg(s), received 0: see `picloud scripts show --help`",
		"apps ls x":              "unknown command \"x\" for \"picloud apps ls\": see `picloud apps ls --help`",
		"apps lst":               "unknown command \"lst\" for \"picloud apps\" (did you mean ls?): see `picloud apps --help`",
		"nothing":                "unknown command \"nothing\" for \"picloud\": see `picloud --help`",
		"deplyo":                 "unknown command \"deplyo\" for \"picloud\" (did you mean deploy?): see `picloud --help`",
		"deploy x.go --rote /":   "unknown flag: --rote: see `picloud deploy --help`",
		"queues create mail":     "required flag(s) \"script\" not set: see `picloud queues create --help`",
		"entries cancel-all":     "at least one of the flags in the group [script queue trigger] is required: see `picloud entries cancel-all --help`",
		"apps ls --output xml":   "--output is table or json, not \"xml\": see `picloud apps ls --help`",
		"deploy /nowhere/x.go":   "open /nowhere/x.go: no such file or directory", // it was typed as it has to be
		"entries ls --limit two": "invalid argument \"two\" for \"--limit\" flag: strconv.ParseInt: parsing \"two\": invalid syntax: see `picloud entries ls --help`",
	} {
		var errs bytes.Buffer
		status := run(t.Context(), strings.Fields(args), strings.NewReader(""), io.Discard, &errs)
		if got := errs.String(); status != 1 || got != "picloud: "+want+"\n" {
			t.Errorf("picloud %s: status %d, %q, want %q", args, status, got, want)
		}
	}
}

// A name that is none is answered as one that nothing has is.
func TestAbsent(t *testing.T) {
	t.Parallel()
	const unparsable = `{"type":"urn:picloud:problem:invalid","detail":"validation failed","errors":[{"location":"path.id","message":"invalid UUID length: 3"}]}`
	const nothing = `{"type":"urn:picloud:problem:not_found","detail":"there is no such thing"}`
	for _, test := range []struct{ args, answer, want string }{
		{"dead-letters show abc", unparsable, "there is no dead letter abc in app \"default\": see `picloud dead-letters ls --all --app default`"},
		{"releases show abc", unparsable, "there is no release abc of app \"default\": see `picloud releases ls --app default`"},
		{"queues pause mail", nothing, "there is no queue \"mail\" in app \"default\": see `picloud queues ls --app default`"},
		{"queues create q --script s", nothing, "there is no app \"default\": see `picloud apps ls`"},
		{"sources create s --kind smtp --config {}", nothing, "there is no app \"default\": see `picloud apps ls`"},
		{"triggers create t --kind kv --script s", nothing, "there is no app \"default\": see `picloud apps ls`"},
		{"triggers dead-letter t --script s", nothing, "there is no app \"default\": see `picloud apps ls`"},
		{"apps resume shop", nothing, "there is no app \"shop\": see `picloud apps ls`"},
	} {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, test.answer)
			}))
			defer server.Close()
			var errs bytes.Buffer
			status := run(t.Context(), append(strings.Fields(test.args), "--url", server.URL, "--token", "pic_x"), strings.NewReader(""), io.Discard, &errs)
			if got := errs.String(); status != 1 || got != "picloud: "+test.want+"\n" {
				t.Errorf("status %d, %q, want %q", status, got, test.want)
			}
		})
	}
}
