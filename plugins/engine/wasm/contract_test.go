package wasm_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/picloud/picloud/plugins/engine/wasm"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/scripttest"
)

// The scripts of the contract in Go, each a package of one program that is compiled. It runs the one that it is named after.
func TestContract(t *testing.T) {
	without := map[string]string{"limit_depth": "what a program of Go calls is in its memory: see limit_memory"}
	if underRace {
		for _, c := range scripttest.Cases() {
			if c.Name != "hello" && c.Name != "batch" {
				without[c.Name] = "each case compiles the program; make contract runs them without the race detector"
			}
		}
	}
	var once sync.Once
	var module []byte
	scripttest.Run(t, scripttest.Suite{
		New: wasm.New, Extension: ".go",
		Build: func(tb testing.TB, _ *scripttest.Case, b engine.Bundle) engine.Bundle {
			once.Do(func() { module = compileContract(tb) })
			b.Files, b.Modules = []engine.File{{Name: "contract.wasm", Data: module}}, nil
			return b
		},
		Without: without,
	})
}

var (
	packageClause = regexp.MustCompile(`(?m)^package \w+$`)
	moduleImport  = regexp.MustCompile(`"app/(\w+)"`)
)

// compileContract builds the program. Its files are laid over a folder of this package that is not there.
func compileContract(tb testing.TB) []byte {
	tb.Helper()
	dir := tb.TempDir()
	here, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	const root = "github.com/picloud/picloud/plugins/engine/wasm/contract"
	overlay := map[string]string{}
	put := func(name, text string) {
		file := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
		overlay[filepath.Join(here, "contract", name)] = file
	}
	var imports, table strings.Builder
	scripts := scripttest.Scripts()
	files, err := fs.Glob(scripts, "*.go")
	if err != nil {
		tb.Fatal(err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(scripts, file)
		if err != nil {
			tb.Fatal(err)
		}
		name := strings.TrimSuffix(file, ".go")
		if script, imported, isModule := strings.Cut(name, "."); isModule {
			name = script + "/" + imported
		} else {
			fmt.Fprintf(&imports, "\t%s %q\n", name, root+"/"+name)
			fmt.Fprintf(&table, "\t%q: %s.Handle,\n", name, name)
		}
		source := moduleImport.ReplaceAllString(string(text), `"`+root+"/"+strings.Split(name, "/")[0]+`/$1"`)
		put(name+"/script.go", packageClause.ReplaceAllString(source, "package "+filepath.Base(name)))
	}
	put("main.go", `package main

import (
	"os"

	"github.com/picloud/picloud/sdk/picloud/guest"
`+imports.String()+`)

var scripts = map[string]guest.HandleFunc{
`+table.String()+`}

func init() { guest.Register(scripts[os.Args[0]]) }

func main() {}
`)
	list, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o600); err != nil {
		tb.Fatal(err)
	}
	out := filepath.Join(dir, "contract.wasm")
	build := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-ldflags=-s", "-buildmode=c-shared", "-o", out, "./contract")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("%v\n%s", err, text)
	}
	module, err := os.ReadFile(out)
	if err != nil {
		tb.Fatal(err)
	}
	return module
}
