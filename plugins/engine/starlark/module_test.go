package starlark_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/picloud/picloud/plugins/engine/starlark"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

func sources(pairs ...string) (files []engine.File) {
	for i := 0; i < len(pairs); i += 2 {
		files = append(files, engine.File{Name: pairs[i], Data: []byte(pairs[i+1])})
	}
	return files
}

func module(name string, pairs ...string) engine.Module {
	return engine.Module{Name: name, Files: sources(pairs...)}
}

func TestModules(t *testing.T) {
	t.Parallel()
	e := starlark.New()
	b := engine.Bundle{
		Hash: "m", Script: "m", Files: sources(
			"main.star", `
load("app/greet", "hello", people = "names")
load("./lib/util.star", "twice")

def handle(ctx):
    if ctx.request.text() == "append":
        people.append("x")
    return [hello("Ada"), twice(people)]
`,
			"lib/util.star", `
load("../names.star", "suffix")
load("app/text", "upper")

def twice(list):
    return [upper(x) + suffix for x in list + list]
`,
			"names.star", "suffix = \"!\"\n",
		), Modules: []engine.Module{
			module("text", "text.star", "def upper(s):\n    return s.upper()\n"),
			module("greet", "greet.star", "load(\"app/text\", \"upper\")\nload(\"./list.star\", \"all\")\nnames = all\ndef hello(name):\n    return \"hello \" + upper(name)\n",
				"list.star", "all = [\"a\"]\n"),
			module("unused", "x.star", "not Starlark"),
		},
	}
	loaded, err := e.Load(t.Context(), b)
	if err != nil || !slices.Equal(loaded.Imports, []string{"greet", "text"}) {
		t.Fatalf("%+v %v", loaded, err)
	}
	if again, err := e.Load(t.Context(), b); err != nil || !slices.Equal(again.Imports, loaded.Imports) {
		t.Errorf("loading it again: %+v %v", again, err)
	}
	a, err := invoke(t.Context(), e, "m", "")
	if want := `["hello ADA",["A!","A!"]]`; err != nil || a.body.String() != want {
		t.Errorf("%v %s; want %s", err, a.body.String(), want)
	}
	if _, err := invoke(t.Context(), e, "m", "append"); err == nil || !strings.Contains(err.Error(), "frozen") {
		t.Errorf("changing what a module has: %v", err)
	}
}

func TestModulesAreRefused(t *testing.T) {
	t.Parallel()
	main := func(load string) []engine.File {
		return sources("main.star", load+"\ndef handle(ctx):\n    return x()\n")
	}
	for name, c := range map[string]struct {
		b       engine.Bundle
		want    string
		imports []string
	}{
		"missing": {
			engine.Bundle{Files: main(`load("app/gret", "x")`), Modules: []engine.Module{module("b", "b.star", ""), module("a", "a.star", "")}},
			`main.star:1:6: there is no module "gret"; there are: a, b`,
			[]string{"gret"},
		},
		"symbol": {
			engine.Bundle{Files: main(`load("app/a", "x")`), Modules: []engine.Module{module("a", "a.star", "y = 1\n")}},
			"main.star:1:1: load: name x not found in module app/a",
			[]string{"a"},
		},
		"private": {
			engine.Bundle{Files: main(`load("app/a", x = "_x")`), Modules: []engine.Module{module("a", "a.star", "_x = 1\n")}},
			"main.star:1:20: load: names with leading underscores are not exported: _x", nil,
		},
		"wrong": {
			engine.Bundle{Files: main(`load("app/a", "x")`), Modules: []engine.Module{module("a", "a.star", "def x():\n    return nothing\n")}},
			"a/a.star:2:12: undefined: nothing",
			[]string{"a"},
		},
		"fails": {
			engine.Bundle{Files: main(`load("app/a", "x")`), Modules: []engine.Module{module("a", "a.star", "x = 1 // 0\n")}},
			"a/a.star:1:7: floored division by zero",
			[]string{"a"},
		},
		"cycle": {
			engine.Bundle{Files: main(`load("app/a", "x")`), Modules: []engine.Module{
				module("a", "a.star", "load(\"app/b\", \"x\")\n"), module("b", "b.star", "load(\"app/a\", \"x\")\n"),
			}},
			"b/b.star:1:6: import cycle: a imports b imports a",
			[]string{"a"},
		},
		"module itself": {
			engine.Bundle{Script: "a", Module: true, Files: sources("a.star", "load(\"app/b\", \"x\")\n"), Modules: []engine.Module{
				module("a", "a.star", ""), module("b", "b.star", "load(\"app/a\", \"x\")\n"),
			}},
			"b/b.star:1:6: import cycle: a imports b imports a",
			[]string{"b"},
		},
		"file cycle": {
			engine.Bundle{Files: append(main(`load("./b.star", "x")`), sources("b.star", "load(\"./main.star\", \"x\")\n")...)},
			"b.star:1:6: load cycle: main.star loads b.star loads main.star", nil,
		},
		"file missing":    {engine.Bundle{Files: main(`load("./b.star", "x")`)}, `main.star:1:6: there is no file "b.star"`, nil},
		"file of another": {engine.Bundle{Files: main(`load("b.star", "x")`)}, `main.star:1:6: "b.star" is neither a module`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.b.Hash = name
			loaded, err := starlark.New().Load(t.Context(), c.b)
			if f := fault.From(err); f == nil || f.Kind != fault.Compile || len(loaded.Diagnostics) == 0 {
				t.Fatalf("%+v %v", loaded, err)
			}
			d := loaded.Diagnostics[0]
			if got := fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Column, d.Message); !strings.HasPrefix(got, c.want) || !slices.Equal(loaded.Imports, c.imports) {
				t.Errorf("%q, imports %q; want %q, %q", got, loaded.Imports, c.want, c.imports)
			}
		})
	}
}

// A module alone is computed as its importers would have it. It needs no handle.
func TestModuleAlone(t *testing.T) {
	t.Parallel()
	loaded, err := starlark.New().Load(t.Context(), engine.Bundle{
		Hash: "alone", Script: "a", Module: true, Files: sources("a.star", "load(\"app/b\", \"y\")\nx = y + 1\n"),
		Modules: []engine.Module{module("b", "b.star", "y = 1\n"), module("a", "a.star", "x = nothing\n")},
	})
	if err != nil || !slices.Equal(loaded.Imports, []string{"b"}) {
		t.Fatalf("%+v %v", loaded, err)
	}
}
