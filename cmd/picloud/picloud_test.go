package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/coretest"
)

// devServer is a running `picloud dev`, and the client commands that find it by its folder.
type devServer struct {
	t      *testing.T
	cmd    *exec.Cmd
	data   string
	public string
	banner string
}

var scriptsLine = regexp.MustCompile(`Scripts +(\S+)/\n`)

func startDev(t *testing.T, data string) *devServer {
	t.Helper()
	s := &devServer{t: t, data: data}
	s.cmd = coretest.Command(t, platform, "dev", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		"--log-level", "warn")
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The last thing that a server prints is how to try it.
	for lines := bufio.NewScanner(out); !strings.Contains(s.banner, "curl ") && lines.Scan(); {
		s.banner += lines.Text() + "\n"
	}
	found := scriptsLine.FindStringSubmatch(s.banner)
	if found == nil {
		t.Fatalf("no address in %q", s.banner)
	}
	s.public = found[1]
	return s
}

// stop ends the server as Ctrl-C does.
func (s *devServer) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGINT); err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("the server ended with %v", err)
	}
}

// run runs a client command and returns what it prints.
func (s *devServer) run(in string, args ...string) (status int, out, errs string) {
	var o, e bytes.Buffer
	status = run(s.t.Context(), append(args, "--data", s.data), strings.NewReader(in), &o, &e)
	return status, o.String(), e.String()
}

// must runs a client command that works.
func (s *devServer) must(args ...string) string {
	s.t.Helper()
	status, out, errs := s.run("", args...)
	if status != 0 || errs != "" {
		s.t.Fatalf("picloud %s: status %d, %q", strings.Join(args, " "), status, errs)
	}
	return out
}

func (s *devServer) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *devServer) get(path string) (int, string) {
	s.t.Helper()
	res, err := http.Get(s.public + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

const greet = `package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	ctx.Log.Info("greeting")
	return map[string]string{"hello": ctx.Request.Param("name")}, nil
}
`

const teapot = `package main

import (
	"errors"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	if ctx.Request.Path == "/fail" {
		return nil, errors.New("no tea\x1b[2J")
	}
	return picloud.Response{Status: 418, Body: ctx.Request.Body}, nil
}
`

// handler fails as long as the letter's data says so.
const handler = `package main

import (
	"encoding/json"
	"errors"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	var letter struct{ Script, Reason, Error, Payload string }
	if err := json.Unmarshal(ctx.Request.Body, &letter); err != nil {
		return nil, err
	}
	ctx.Log.Info("handles " + letter.Script + ": " + letter.Reason + ": " + letter.Payload)
	if letter.Payload == "unhandled" {
		return nil, errors.New("cannot help")
	}
	return nil, nil
}
`

// A person's way through the commands, against a server as they start it.
func TestCommands(t *testing.T) {
	t.Parallel()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	dir := coretest.DataDir(t)
	s := startDev(t, dir)

	kept, err := readCredentials(credentialsFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(credentialsFile(dir)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("credentials: %v, %v, want mode 0600", info, err)
	}
	if !strings.Contains(s.banner, kept.Token) {
		t.Error("the first start does not show the API key")
	}
	if status, body := s.get("/"); status != http.StatusOK || !strings.Contains(body, "Hello") {
		t.Errorf("GET / = %d %s", status, body)
	}

	deployed := s.must("deploy", s.file("greet.go", greet), "--route", "GET /greet/{name}")
	if !strings.Contains(deployed, "route    GET /greet/{name}\n") {
		t.Errorf("deploy prints %q", deployed)
	}
	if status, body := s.get("/greet/Ada"); status != http.StatusOK || body != `{"hello":"Ada"}` {
		t.Errorf("GET /greet/Ada = %d %s", status, body)
	}
	s.must("deploy", s.file("teapot.go", teapot), "--name", "pot", "--max-attempts", "1")

	t.Run("failures are one line with the next step", func(t *testing.T) {
		for _, test := range []struct {
			args []string
			want string
		}{
			{[]string{"deploy", s.file("bad.go", strings.Replace(greet, "ctx.Log", "ctx.Lag", 1))}, `bad.go:6:6: `},
			{[]string{"deploy", "nowhere.go"}, "picloud: open nowhere.go: no such file or directory\n"},
			{[]string{"invoke", "nope"}, "picloud: invoke nope: there is no script \"nope\" in app \"default\": see `picloud scripts ls --app default`\n"},
			{[]string{"invoke", "pot"}, "picloud: pot answered 418 I'm a teapot: see `picloud executions show "},
			{[]string{"invoke", "pot", "--path", "/fail"}, `picloud: invoke pot: no tea\u001b[2J (execution `},
			{[]string{"invoke", "greet", "--header", "x"}, "picloud: --header is 'Name: value', not \"x\"\n"},
			{[]string{"scripts", "activate", "greet", "9"}, "picloud: there is no version 9 of a script \"greet\""},
			{[]string{"routes", "rm", "GET /nope"}, "picloud: there is no route \"GET /nope\" in app \"default\""},
			{[]string{"dead-letters", "replay-all", "--rate", "0"}, "picloud: --rate is how many are put back a second"},
			{[]string{"dead-letters", "replay-all", "--cancel", uuid.NewString()}, "picloud: there is no replay "},
			{[]string{"apps", "delete", "default"}, "picloud: this deletes default with all its scripts"},
			{[]string{"apps", "show", "nope"}, "picloud: there is no app \"nope\": see `picloud apps ls`\n"},
			{[]string{"apps", "pause", "nope"}, "picloud: there is no app \"nope\": see `picloud apps ls`\n"},
			{[]string{"triggers", "resume", "nope"}, "picloud: there is no trigger \"nope\" in app \"default\": see `picloud triggers ls --app default`\n"},
			{[]string{"apps", "ls", "--output", "xml"}, "picloud: --output is table or json, not \"xml\": see `picloud apps ls --help`\n"},
			{[]string{"apps", "ls", "--token", "pic_x"}, "does not accept the token"},
			{[]string{"apps", "ls", "--url", "http://localhost:1"}, "there is no token for http://localhost:1"},
			{[]string{"apps", "ls", "--url", "http://localhost:1", "--token", "x"}, "nothing listens on http://localhost:1: start `picloud dev`"},
		} {
			status, _, errs := s.run("", test.args...)
			if status != 1 || !strings.Contains(errs, test.want) || strings.Count(errs, "\n") != 1 {
				t.Errorf("picloud %s: status %d, %q, want one line with %q", strings.Join(test.args, " "), status, errs, test.want)
			}
		}
	})

	t.Run("invoke", func(t *testing.T) {
		if out := s.must("invoke", "greet"); out != `{"hello":""}` {
			t.Errorf("invoke prints %q", out)
		}
		if _, out, _ := s.run("from a pipe\x00", "invoke", "pot", "--body", "@-"); out != "from a pipe\x00" {
			t.Errorf("invoke with standard input prints %q", out)
		}
		if _, out, _ := s.run("", "invoke", "pot", "--body", "@"+s.file("body", "from a file")); out != "from a file" {
			t.Errorf("invoke with a file prints %q", out)
		}
		id := strings.TrimSpace(s.must("invoke", "pot", "--async", "--path", "/fail"))
		coretest.Eventually(t, "a dead letter of the call", func() bool {
			return strings.Contains(s.must("dead-letters", "ls"), id)
		})
		if out := s.must("entries", "show", id); !strings.Contains(out, "dead_lettered") {
			t.Errorf("entries show prints %s", out)
		}
		if out := s.must("dead-letters", "resolve", id); !strings.Contains(out, "ignored") {
			t.Errorf("dead-letters resolve prints %s", out)
		}
		if out := s.must("dead-letters", "ls"); strings.Contains(out, id) {
			t.Errorf("a resolved dead letter is listed: %s", out)
		}
	})

	t.Run("dead letters", func(t *testing.T) {
		s.must("deploy", s.file("handler.go", handler), "--name", "handler")
		s.must("triggers", "dead-letter", "help", "--script", "handler", "--of", "pot")
		die := func(body string) string {
			return strings.TrimSpace(s.must("invoke", "pot", "--async", "--path", "/fail", "--body", body))
		}
		shows := func(id, word string) func() bool {
			return func() bool {
				_, out, _ := s.run("", "dead-letters", "show", id) // there is no letter at first
				return strings.Contains(out, word)
			}
		}
		coretest.Eventually(t, "the letter is handled", shows(die("handled"), "handled_by_script"))
		if out := s.must("logs", "handler"); !strings.Contains(out, "handles pot: exhausted: handled") {
			t.Errorf("the handler logs %s", out)
		}
		ids := []string{die("unhandled"), die("unhandled")}
		for _, id := range ids {
			coretest.Eventually(t, "the handler of the letter fails", shows(id, "handler_failed"))
		}
		if out := s.must("dead-letters", "count", "--script", "pot", "--text", "NO TEA"); strings.TrimSpace(out) != "2" {
			t.Errorf("dead-letters count prints %s", out)
		}
		if out := s.must("dead-letters", "groups"); strings.Count(out, "\n") != 2 || !strings.Contains(out, " 2 ") {
			t.Errorf("dead-letters groups prints %s", out)
		}
		if out := s.must("dead-letters", "replay-all", "--script", "pot", "--preview"); !strings.Contains(out, "2") {
			t.Errorf("a preview prints %s", out)
		}
		status, out, errs := s.run("", "dead-letters", "replay-all", "--script", "pot", "--rate", "1")
		if status != 0 || !strings.Contains(out, "done") || !strings.Contains(out, "2 of 2") || errs != "" {
			t.Errorf("dead-letters replay-all: status %d, %s, %s", status, out, errs)
		}
		for _, id := range ids {
			if !shows(id, "replayed as")() {
				t.Error("a letter that was put back does not say so")
			}
		}
		coretest.Eventually(t, "both are dead again, and nobody else", func() bool {
			return strings.TrimSpace(s.must("dead-letters", "count")) == "2"
		})
		if out := s.must("dead-letters", "ls", "--script", "handler", "--all"); strings.Contains(out, "exhausted") {
			t.Errorf("a handler left a dead letter: %s", out)
		}
		s.must("triggers", "delete", "help")
		s.must("dead-letters", "resolve-all", "--script", "pot")
		if out := s.must("dead-letters", "count"); strings.TrimSpace(out) != "0" {
			t.Errorf("after all are resolved dead-letters count prints %s", out)
		}
		s.must("scripts", "rm", "handler")
	})

	t.Run("logs", func(t *testing.T) {
		coretest.Eventually(t, "a log line", func() bool { return strings.Contains(s.must("logs", "greet"), "info  greeting") })
	})

	t.Run("json", func(t *testing.T) {
		var scripts items[api.Script]
		if err := json.Unmarshal([]byte(s.must("scripts", "ls", "--output", "json")), &scripts); err != nil {
			t.Fatal(err)
		}
		if len(scripts.Items) != 3 || scripts.Items[0].Name != "greet" {
			t.Errorf("scripts: %+v", scripts)
		}
	})

	t.Run("routes", func(t *testing.T) {
		s.must("routes", "add", "POST /greet", "--script", "greet", "--async")
		if out := s.must("routes", "match", "POST /greet"); !strings.Contains(out, "async") {
			t.Errorf("routes match prints %s", out)
		}
		if status, _, _ := s.run("", "routes", "check", "POST /greet"); status != 1 {
			t.Error("there is room for a route that exists")
		}
		s.must("routes", "rm", "POST /greet")
		s.must("routes", "check", "POST /greet")
	})

	t.Run("an app of its own", func(t *testing.T) {
		file := s.file("greet.go", greet)
		status, _, errs := s.run("", "deploy", file, "--app", "shop", "--route", "GET /")
		if want := "picloud: there is no app \"shop\": make it with `picloud apps create shop`\n"; status != 1 || errs != want {
			t.Errorf("deploy to no app: status %d, %q, want %q", status, errs, want)
		}
		s.must("apps", "create", "shop")
		s.must("deploy", file, "--app", "shop", "--route", "GET /")
		s.must("domains", "add", "shop.example.com", "--app", "shop")
		if out := s.must("routes", "match", "GET /", "--host", "shop.example.com", "--app", "shop"); !strings.Contains(out, "greet") {
			t.Errorf("routes match prints %s", out)
		}
		s.must("apps", "delete", "shop", "--yes")
	})

	t.Run("going back", func(t *testing.T) {
		s.must("scripts", "activate", "hello", "1")
		s.must("releases", "activate", "1")
		if status, _ := s.get("/greet/Ada"); status != http.StatusNotFound {
			t.Errorf("a route from after the release answers %d", status)
		}
	})

	// The next start finds all of it, and the key is not shown again.
	s.stop()
	again := startDev(t, dir)
	if strings.Contains(again.banner, kept.Token) {
		t.Error("a later start shows the API key")
	}
	if out := again.must("scripts", "ls"); !strings.Contains(out, "greet") {
		t.Errorf("scripts ls after a new start prints %s", out)
	}
	again.stop()
}

func TestCommandsThatNeedNoServer(t *testing.T) {
	t.Parallel()
	do := func(args ...string) (int, string) {
		var out bytes.Buffer
		return run(context.Background(), args, strings.NewReader(""), &out, io.Discard), out.String()
	}
	if status, out := do("openapi"); status != 0 || !strings.HasPrefix(out, "openapi: 3.1.0\n") && !strings.Contains(out, "\nopenapi: 3.1.0\n") {
		t.Errorf("openapi: status %d, %.80q", status, out)
	}
	if status, out := do("version", "--output", "json"); status != 0 || !json.Valid([]byte(out)) {
		t.Errorf("version: status %d, %q", status, out)
	}
	if status, _ := do("plugin", "run", "engine/none"); status != 1 {
		t.Errorf("plugin run of an unknown plugin: status %d", status)
	}
	if status, _ := do("serve", "--slots", "none"); status != 1 {
		t.Errorf("serve with a wrong setting: status %d", status)
	}
}
