package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

// buildExample builds the example of an engine, which is a module of its own, and returns the program's path.
func buildExample(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "stack")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, ".")
	build.Dir = filepath.Join("..", "..", "sdk", "examples", "stack")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the example: %v\n%s", err, out)
	}
	return program
}

// An engine that somebody else has written is installed, runs scripts, is started only as it was installed, and can be removed.
func TestInstalledEngine(t *testing.T) {
	t.Parallel()
	program, data := buildExample(t), coretest.DataDir(t)
	away := &instance{t: t, data: data} // no server runs yet
	noProgram := write(t, t.TempDir(), "text", "no program")
	if err := os.Chmod(noProgram, 0o755); err != nil {
		t.Fatal(err)
	}
	for what, file := range map[string]string{
		"is no plugin that can be used here: the plugin process died: exit status 0": "/bin/true", "no such file": filepath.Join(data, "absent"),
		"is no plugin that can be used here: it cannot be run: exec format error": noProgram,
	} {
		if code, out, errs := away.cli("plugin", "add", file); code == 0 || out != "" || !strings.Contains(errs, what) || !strings.Contains(errs, file) {
			t.Errorf("plugin add %s: %d %q %q", file, code, out, errs)
		}
	}
	if out := away.command("plugin", "ls"); strings.Contains(out, "stack") {
		t.Errorf("nothing is installed: %s", out)
	}
	away.command("plugin", "add", program)
	if out := away.command("plugin", "ls"); !strings.Contains(out, `"engine/stack"`) || !strings.Contains(out, `".stack"`) {
		t.Errorf("%s", out)
	}

	n := start(t, setup{command: "dev", data: data})
	dir := t.TempDir()
	greeting := write(t, dir, "greet.stack", "{ \"hello\" \"name\" param }\n")
	n.command("deploy", greeting, "--route", "GET /greet/{name}")
	n.expect("/greet/Ada", http.StatusOK, `{"hello":"Ada"}`)
	n.command("deploy", write(t, dir, "fails.stack", "1\n  0 /\n"), "--route", "GET /fails")
	n.problem("/fails", http.StatusBadGateway, "script_error")
	wrong := write(t, dir, "wrong.stack", "1 2\n  plus\n")
	if code, _, errs := n.cli("deploy", wrong); code != 1 || !strings.HasPrefix(errs, wrong+`:2:3: there is no word "plus"`) {
		t.Errorf("%d %s", code, errs)
	}
	n.kill()

	installed := filepath.Join(data, "plugins", "engine", "stack", "plugin")
	text, err := os.ReadFile(installed)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(installed); err != nil { // a program that may still run cannot be written to
		t.Fatal(err)
	}
	if err := os.WriteFile(installed, append(text, 'x'), 0o755); err != nil {
		t.Fatal(err)
	}
	n = start(t, setup{command: "dev", data: data})
	if out := n.output(); !strings.Contains(out, installed+" is not the program that was installed: install it again") {
		t.Errorf("the log does not say what is wrong: %s", out)
	}
	n.unavailable("/greet/Ada")
	n.kill()

	away.command("plugin", "add", program)
	n = start(t, setup{command: "dev", data: data})
	n.expect("/greet/Ada", http.StatusOK, `{"hello":"Ada"}`)
	n.kill()

	away.command("plugin", "delete", "engine/stack")
	if code, _, errs := away.cli("plugin", "delete", "engine/stack"); code != 1 || !strings.Contains(errs, `no plugin "engine/stack"`) {
		t.Errorf("removed twice: %d %s", code, errs)
	}
	n = start(t, setup{command: "dev", data: data})
	n.unavailable("/greet/Ada")
}

// unavailable sends a GET that cannot be served, and checks that the answer says why.
func (n *instance) unavailable(path string) {
	n.t.Helper()
	const why = `the engine \"stack\" cannot be started`
	if r := n.must(http.MethodGet, path, nil); r.status != http.StatusServiceUnavailable || !strings.Contains(string(r.body), why) {
		n.t.Errorf("GET %s: %s, want 503 with %s", path, r, why)
	}
}
