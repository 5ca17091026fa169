package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

// write makes a file in dir and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A module's new version runs in what imports it, in both languages, or in nothing at all.
func TestModules(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	for _, l := range []struct{ language, extension, module, broken, importer, diagnostic string }{
		{
			"Go", ".go", "package greet\n\nfunc Hello(name string) string { return %q + name }\n", "package greet\n\nfunc Bye() {}\n",
			"package main\n\nimport (\n\t\"app/%s\"\n\t\"github.com/picloud/picloud/sdk/picloud\"\n)\n\n" +
				"func Handle(ctx *picloud.Context) (any, error) {\n\treturn greet.Hello(\"Ada\"), nil\n}\n",
			"hello-go/hello-go.go:9:15: undefined: greet.Hello",
		},
		{
			"Starlark", ".star", "def hello(name):\n    return %q + name\n", "def bye():\n    pass\n",
			"load(\"app/%s\", \"hello\")\n\ndef handle(ctx):\n    return hello(\"Ada\")\n",
			"hello-star/hello-star.star:1:1: load: name hello not found in module app/greet-star",
		},
	} {
		t.Run(l.language, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			suffix := strings.Replace(l.extension, ".", "-", 1)
			module, hello := "greet"+suffix, "hello"+suffix
			deploy := func(text string) (int, string) {
				code, _, errs := n.cli("deploy", write(t, dir, module+l.extension, text), "--module")
				return code, errs
			}
			importer := write(t, dir, hello+l.extension, fmt.Sprintf(l.importer, module))
			if code, _, errs := n.cli("deploy", importer); code != 1 || !strings.Contains(errs, importer+":") ||
				!strings.Contains(errs, fmt.Sprintf("there is no module %q", module)) {
				t.Errorf("without its module: %d %s", code, errs)
			}
			if code, errs := deploy(fmt.Sprintf(l.module, "hello ")); code != 0 {
				t.Fatal(errs)
			}
			n.command("deploy", importer, "--route", "GET /"+hello)
			n.expect("/"+hello, http.StatusOK, `"hello Ada"`)

			// While the module changes, every answer is that of one version or the other.
			var calls sync.WaitGroup
			var done atomic.Bool
			for range 2 {
				calls.Go(func() {
					for !done.Load() {
						r, err := n.send(http.MethodGet, "/"+hello, nil)
						if body := string(r.body); err != nil || body != `"hello Ada"` && body != `"salve Ada"` {
							t.Errorf("while the module changes: %s, %v", r, err)
							return
						}
					}
				})
			}
			if code, errs := deploy(fmt.Sprintf(l.module, "salve ")); code != 0 {
				t.Error(errs)
			}
			n.expect("/"+hello, http.StatusOK, `"salve Ada"`)
			code, errs := deploy(l.broken)
			if code != 1 || !strings.HasPrefix(errs, l.diagnostic) || !strings.Contains(errs, fmt.Sprintf("would break %q", hello)) {
				t.Errorf("breaking the importer: %d %s", code, errs)
			}
			n.expect("/"+hello, http.StatusOK, `"salve Ada"`)
			n.command("scripts", "activate", module, "1")
			n.expect("/"+hello, http.StatusOK, `"hello Ada"`)
			done.Store(true)
			calls.Wait()

			if code, _, errs := n.cli("scripts", "delete", module); code != 1 || !strings.Contains(errs, "imported by: "+hello) {
				t.Errorf("deleting what is imported: %d %s", code, errs)
			}
			if out := n.command("scripts", "show", module); !strings.Contains(out, hello) {
				t.Errorf("who imports it is not shown: %s", out)
			}
		})
	}
}

func TestModulesGoBackWithTheRelease(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	dir := t.TempDir()
	module := func(name, text string) (int, string) {
		code, out, errs := n.cli("deploy", write(t, dir, name+".go", "package "+name+"\n\n"+text), "--module")
		return code, out + errs
	}
	module("one", "func F() string { return \"one\" }\n")
	module("two", "import \"app/one\"\n\nfunc G() string { return \"two of \" + one.F() }\n")
	util := write(t, dir, "util.go", "package main\n\nimport \"app/two\"\n\nfunc text() string { return two.G() }\n")
	main := write(t, dir, "main.go", "package main\n\nimport \"github.com/picloud/picloud/sdk/picloud\"\n\n"+
		"func Handle(ctx *picloud.Context) (any, error) { return text(), nil }\n")
	var made struct{ Release int }
	if err := json.Unmarshal([]byte(n.command("deploy", main, util, "--route", "GET /main")), &made); err != nil {
		t.Fatal(err)
	}
	n.expect("/main", http.StatusOK, `"two of one"`)
	if code, errs := module("one", "import \"app/two\"\n\nfunc F() string { return two.G() }\n"); code != 1 || !strings.Contains(errs, "import cycle: one imports two imports one") {
		t.Errorf("a cycle: %d %s", code, errs)
	}
	if code, errs := module("one", "func F() string { return \"another\" }\n"); code != 0 {
		t.Fatal(errs)
	}
	n.expect("/main", http.StatusOK, `"two of another"`)
	n.command("releases", "activate", fmt.Sprint(made.Release))
	n.expect("/main", http.StatusOK, `"two of one"`)
}

// What README.md says of modules is so.
func TestModulesAsDescribed(t *testing.T) {
	t.Parallel()
	n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## Modules\n")
	section, _, _ = strings.Cut(section, "\n## ")
	dir := t.TempDir()
	var file, text string
	for line := range strings.Lines(section) {
		line, code := strings.CutPrefix(line, "    ")
		words := shellWord.FindAllString(line, -1)
		for i := range words {
			words[i] = strings.Trim(words[i], "'")
		}
		switch {
		case !code:
		case file != "" && line == "END\n":
			write(t, dir, file, text)
			file, text = "", ""
		case file != "":
			text += line
		case words[0] == "cat":
			file = words[2]
		case words[0] == "picloud":
			words[2] = filepath.Join(dir, words[2])
			n.command(words[1:]...)
		case words[0] == "curl":
			n.expect(strings.TrimPrefix(words[1], "http://localhost:8080"), http.StatusOK, `"Hello, Ada!"`)
			return
		}
	}
	t.Error("there is no example")
}

var shellWord = regexp.MustCompile(`'[^']*'|\S+`)
