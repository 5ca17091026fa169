package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picloud/picloud/core/coretest"
)

// example deploys an example as its README says, with the scripts of one language, and runs its other commands of picloud.
func (n *instance) example(name, extension string) {
	n.t.Helper()
	dir := filepath.Join("examples", name)
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		n.t.Fatal(err)
	}
	commands := 0
	for line := range strings.Lines(string(readme)) {
		command, found := strings.CutPrefix(line, "    picloud ")
		if !found {
			continue
		}
		commands++
		args := words(n.t, command)
		for i, a := range args {
			if strings.HasSuffix(a, ".go") {
				args[i] = filepath.Join(dir, strings.TrimSuffix(a, ".go")+extension)
			}
		}
		n.command(args...)
	}
	if commands == 0 {
		n.t.Fatalf("the README of %s has no commands", name)
	}
}

// words divides a command line as a shell does, as far as READMEs go.
func words(t *testing.T, line string) (list []string) {
	t.Helper()
	var word strings.Builder
	quoted, begun := false, false
	for _, c := range strings.TrimSpace(line) {
		switch {
		case c == '\'':
			quoted, begun = !quoted, true
		case c == ' ' && !quoted:
			if begun {
				list = append(list, word.String())
			}
			word.Reset()
			begun = false
		case !quoted && strings.ContainsRune("\"$\\|<>&", c):
			t.Fatalf("%q is more than the tests understand", line)
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	return append(list, word.String())
}

// inLanguages runs an example in each language that it has scripts in, on a server of its own.
func inLanguages(t *testing.T, name string, try func(n *instance)) {
	t.Parallel()
	for language, extension := range map[string]string{"Go": ".go", "TypeScript": ".ts"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			n := start(t, setup{command: "dev", data: coretest.DataDir(t)})
			n.example(name, extension)
			try(n)
		})
	}
}

func TestExampleShortener(t *testing.T) {
	inLanguages(t, "shortener", func(n *instance) {
		n.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		r := n.must(http.MethodPost, "/links", []byte(`{"url":"https://go.dev/doc"}`))
		code := field(r.body, "code")
		if r.status != http.StatusCreated || len(code) != 8 {
			n.t.Fatal(r)
		}
		for range 3 {
			if r := n.must(http.MethodGet, "/l/"+code, nil); r.status != http.StatusFound || r.header.Get("Location") != "https://go.dev/doc" {
				n.t.Error(r)
			}
		}
		if r := n.must(http.MethodGet, "/links/"+code, nil); r.status != http.StatusOK || !bytes.Contains(r.body, []byte(`"visits":3`)) {
			n.t.Error(r)
		}
		for body, status := range map[string]int{`{"url":"ftp://x"}`: 400, `{}`: 400} {
			if r := n.must(http.MethodPost, "/links", []byte(body)); r.status != status {
				n.t.Errorf("%s: %s", body, r)
			}
		}
		if r := n.must(http.MethodGet, "/l/none", nil); r.status != http.StatusNotFound {
			n.t.Error(r)
		}
	})
}
