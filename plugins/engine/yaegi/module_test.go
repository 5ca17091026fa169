package yaegi_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/plugins/engine/yaegi"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// sources makes files of pairs of a name and a text.
func sources(pairs ...string) (files []engine.File) {
	for i := 0; i < len(pairs); i += 2 {
		files = append(files, engine.File{Name: pairs[i], Data: []byte(pairs[i+1])})
	}
	return files
}

func module(name string, pairs ...string) engine.Module {
	return engine.Module{Name: name, Files: sources(pairs...)}
}

// loadWith loads a script of one file with modules.
func loadWith(t testing.TB, e engine.Engine, src string, modules ...engine.Module) engine.Loaded {
	t.Helper()
	b := bundle("with", src)
	b.Modules = modules
	loaded, err := e.Load(t.Context(), b)
	if err != nil {
		t.Fatalf("load: %v %+v", err, loaded)
	}
	t.Cleanup(func() { e.Unload("with") })
	return loaded
}

func TestModules(t *testing.T) {
	t.Parallel()
	text := module("text", "text.go", `// Package text is small.
package text

import "strings"

func Upper(s string) string { return strings.ToUpper(s) }

// Max has what the interpreter does not know.
func Max(a, b int) int { return max(a, b) }
`)
	greet := module("greet-people", "greet.go", `package greet

import (
	"fmt"

	"app/text"
)

type Person struct {
	Name   string `+"`json:\"name\"`"+`
	secret int
}

func (p *Person) Rename(to string) { p.Name = text.Upper(to) }
func (p Person) String() string { return "person " + p.Name }

type Namer interface{ String() string }

var Count int
var ErrNobody = fmt.Errorf("nobody is there")

const Limit = 3

func New(name string) (*Person, error) {
	if name == "" {
		return nil, ErrNobody
	}
	Count++
	return &Person{Name: name, secret: secretOf(name)}, nil
}

func Each(names []string, f func(Person) error) error {
	for _, n := range names {
		if err := f(Person{Name: n}); err != nil {
			return err
		}
	}
	return nil
}

func Map[T, U any](list []T, f func(T) U) (out []U) {
	for _, x := range list {
		out = append(out, f(x))
	}
	return out
}
`, "secret_windows.go", "//go:build ignore\n\npackage greet\n\nimport \"app/text\"\n\nfunc secretOf(s string) int { return text.Max(len(s), 1) }\n\nfunc (p Person) Secret() int { return p.secret }\n")
	e := yaegi.New()
	loaded := loadWith(t, e, `package main

import (
	"encoding/json"
	"errors"
	"fmt"

	people "app/greet-people"
	"app/text"
	"github.com/picloud/picloud/sdk/picloud"
)

type guest struct {
	people.Person
}

func Handle(ctx *picloud.Context) (any, error) {
	p, err := people.New("ada")
	if err != nil {
		return nil, err
	}
	p.Rename("grace")
	_, err = people.New("")
	g := guest{Person: *p}
	var names []string
	if err := people.Each([]string{"a", "b"}, func(p people.Person) error { names = append(names, p.Name); return nil }); err != nil {
		return nil, err
	}
	encoded, _ := json.Marshal(g)
	var n people.Namer = p
	twice := people.Map[int, string]([]int{1, 2}, func(i int) string { return fmt.Sprint(i * people.Limit) })
	var back people.Person
	if err := json.Unmarshal([]byte("{\"name\":\"Bob\"}"), &back); err != nil {
		return nil, err
	}
	return []any{g, string(encoded), n.String(), p.Secret(), errors.Is(err, people.ErrNobody), names, twice, text.Upper("x"), back.Name,
		fmt.Sprint(p), people.Count, *p}, nil
}
`, text, greet, module("unused", "broken.go", "not Go"))
	if !slices.Equal(loaded.Imports, []string{"greet-people", "text"}) {
		t.Errorf("it imports %q", loaded.Imports)
	}
	want := `[{"name":"GRACE"},"{\"name\":\"GRACE\"}","person GRACE",3,true,["a","b"],["3","6"],"X","Bob","person GRACE",1,{"name":"GRACE"}]`
	for i := range 2 { // what a module holds lives as long as the interpreter
		a, err := invoke(t.Context(), e, "with", "")
		if want := strings.Replace(want, `GRACE",1,`, fmt.Sprintf(`GRACE",%d,`, i+1), 1); err != nil || a.body.String() != want {
			t.Errorf("%v %s; want %s", err, a.body.String(), want)
		}
	}
}

// Packages are initialised as in Go: each after what it imports, once, its variables before its init functions, file by file.
func TestModulesAreInitialisedInOrder(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	log := module("log", "log.go", "package log\n\nvar Lines []string\n\nfunc Add(s string) int { Lines = append(Lines, s); return len(Lines) }\n")
	a := module("a", "a.go", "package a\n\nimport \"app/log\"\n\nvar X = log.Add(\"a.X\")\n\nfunc init() { log.Add(\"a.init\") }\n",
		"b.go", "package a\n\nimport \"app/log\"\n\nfunc init() { log.Add(\"a.init of b\") }\n")
	b := module("b", "b.go", "package b\n\nimport (\n\t_ \"app/a\"\n\t\"app/log\"\n)\n\nvar Y = log.Add(\"b.Y\")\n")
	bundle := engine.Bundle{Hash: "order", Script: "order", Modules: []engine.Module{b, log, a}, Files: sources(
		"main.go", `package main

import (
	"app/b"
	"app/log"
	"github.com/picloud/picloud/sdk/picloud"
)

var z = log.Add("main.z")

func init() { log.Add("main.init") }

func Handle(ctx *picloud.Context) (any, error) { return []any{log.Lines, b.Y, z, help(1)}, nil }
`, "util.go", "package main\n\nimport l \"app/log\"\n\nfunc init() { l.Add(\"main.init of util\") }\n\nfunc help(n int) int { return min(n, w) }\n\nvar w = 5\n",
	)}
	if loaded, err := e.Load(t.Context(), bundle); err != nil || !slices.Equal(loaded.Imports, []string{"b", "log"}) {
		t.Fatalf("%+v %v", loaded, err)
	}
	defer e.Unload("order")
	answer, err := invoke(t.Context(), e, "order", "")
	want := `[["a.X","a.init","a.init of b","b.Y","main.z","main.init","main.init of util"],4,5,1]`
	if err != nil || answer.body.String() != want {
		t.Errorf("%v %s; want %s", err, answer.body.String(), want)
	}
}

func TestModulesAreRefused(t *testing.T) {
	t.Parallel()
	const handle = "\n\nfunc Handle(ctx *picloud.Context) (any, error) { return nil, nil }\n"
	main := func(path string) string {
		return "package main\n\nimport (\n\t_ \"" + path + "\"\n\t\"github.com/picloud/picloud/sdk/picloud\"\n)" + handle
	}
	for name, c := range map[string]struct {
		b       engine.Bundle
		want    string // place and message
		imports []string
	}{
		"missing": {
			engine.Bundle{Files: sources("main.go", main("app/gret")), Modules: []engine.Module{module("b", "b.go", "package b"), module("a", "a.go", "package a")}},
			`main.go:4:4: there is no module "gret"; there are: a, b`,
			[]string{"gret"},
		},
		"wrong": {
			engine.Bundle{Files: sources("main.go", main("app/a")), Modules: []engine.Module{module("a", "x.go", "package a\n\nvar x int = \"\"")}},
			"a/x.go:3:13: cannot use",
			[]string{"a"},
		},
		"syntax": {
			engine.Bundle{Files: sources("main.go", main("app/a")), Modules: []engine.Module{module("a", "x.go", "package a\n\nvar")}},
			"a/x.go:3:4: expected",
			[]string{"a"},
		},
		"not available": {
			engine.Bundle{Files: sources("main.go", main("app/a")), Modules: []engine.Module{module("a", "x.go", "package a\n\nimport \"os\"\n\nvar X = os.Args")}},
			`a/x.go:3:8: the package "os" is not available`,
			[]string{"a"},
		},
		"unexported": {
			engine.Bundle{Files: sources("main.go", strings.Replace(main("app/a"), "_ ", "", 1)+"\nvar x = a.x\n"), Modules: []engine.Module{module("a", "x.go", "package a\n\nvar x = 1")}},
			"main.go:10:11: name x not exported by package a",
			[]string{"a"},
		},
		"main": {
			engine.Bundle{Files: sources("main.go", main("app/a")), Modules: []engine.Module{module("a", "x.go", "package main")}},
			"a/x.go:1:9: a module is a package of a name of its own, not main",
			[]string{"a"},
		},
		"two packages": {
			engine.Bundle{Files: sources("main.go", main("app/a")), Modules: []engine.Module{module("a", "x.go", "package a", "y.go", "package b")}},
			"a/y.go:1:9: the package is b here and a in a/x.go",
			[]string{"a"},
		},
		"cycle": {
			engine.Bundle{Files: sources("main.go", main("app/a")), Modules: []engine.Module{
				module("a", "x.go", "package a\n\nimport _ \"app/b\"\n"), module("b", "x.go", "package b\n\nimport _ \"app/a\"\n"),
			}},
			"b/x.go:3:10: import cycle: a imports b imports a",
			[]string{"a"},
		},
		"module itself": {
			engine.Bundle{Script: "a", Module: true, Files: sources("x.go", "package a\n\nimport _ \"app/b\"\n"), Modules: []engine.Module{
				module("a", "x.go", "package a\n\nimport _ \"app/b\"\n"), module("b", "x.go", "package b\n\nimport _ \"app/a\"\n"),
			}},
			"b/x.go:3:10: import cycle: a imports b imports a",
			[]string{"b"},
		},
		"second file": {
			engine.Bundle{Files: sources("main.go", main("strings"), "util.go", "package main\n\nfunc f() int { return \"\" }\n")},
			"util.go:3:23: cannot use", nil,
		},
		"generic literal": {
			engine.Bundle{
				Files:   sources("main.go", strings.Replace(main("app/a"), "_ ", "", 1)+"\nvar x = a.Set[string]{}\n"),
				Modules: []engine.Module{module("a", "x.go", "package a\n\ntype Set[T comparable] map[T]bool\n")},
			},
			"main.go:10:9: a literal of the generic type Set of a module: have a func of the module make it",
			[]string{"a"},
		},
		"panics": {
			engine.Bundle{Files: sources("main.go", main("app/a")), Modules: []engine.Module{module("a", "x.go", "package a\n\nfunc init() {\n\tpanic(\"no\")\n}\n")}},
			"a/x.go:3:14: the script panicked when it was loaded: no",
			[]string{"a"},
		},
		"goroutine": {
			engine.Bundle{Files: sources("main.go", main("app/a")), Modules: []engine.Module{module("a", "x.go", "package a\n\nfunc init() {\n\tgo func() {}()\n}\n")}},
			"initialisers start a goroutine",
			[]string{"a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.b.Hash = name
			loaded, err := yaegi.New().Load(t.Context(), c.b)
			if f := fault.From(err); f == nil || f.Kind != fault.Compile || len(loaded.Diagnostics) == 0 {
				t.Fatalf("%+v %v", loaded, err)
			}
			d := loaded.Diagnostics[0]
			if got := fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Column, d.Message); !strings.Contains(got, c.want) || !slices.Equal(loaded.Imports, c.imports) {
				t.Errorf("%q, imports %q; want %q, %q", got, loaded.Imports, c.want, c.imports)
			}
		})
	}
}

// A module alone is loaded as its importers would have it.
func TestModuleAlone(t *testing.T) {
	t.Parallel()
	b := engine.Bundle{
		Hash: "alone", Script: "a", Module: true, Files: sources("x.go", "package a\n\nimport \"app/b\"\n\nvar X = b.Y + 1\n"),
		Modules: []engine.Module{module("b", "b.go", "package b\n\nconst Y = 1\n"), module("a", "x.go", "package old")},
	}
	e := yaegi.New()
	loaded, err := e.Load(t.Context(), b)
	if err != nil || !slices.Equal(loaded.Imports, []string{"b"}) {
		t.Fatalf("%+v %v", loaded, err)
	}
	e.Unload("alone")
}

// What a module does is the script's doing: its panics are told with their place, and its loops and goroutines end with the run.
func TestModulesAreContained(t *testing.T) { // alone: what it takes of memory would be another test's fault
	defer collect()
	e := yaegi.New()
	loadWith(t, e, script([]string{"app/a"}, "\treturn a.Do(string(ctx.Request.Body)), nil"), module("a", "x.go", `package a

func Do(what string) int {
	switch what {
	case "panic":
		var m map[string]int
		m["x"] = 1
	case "loop":
		for {
		}
	case "grow":
		s := "x"
		for {
			s += s
		}
	case "beside":
		go func() { panic("beside") }()
		select {}
	}
	return 7
}
`))
	for what, kind := range map[string]fault.Kind{
		"panic": fault.ScriptPanic, "loop": fault.Deadline, "grow": fault.Limit, "beside": fault.ScriptPanic,
	} {
		limit := time.Minute
		if kind == fault.Deadline {
			limit = 100 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := invoke(ctx, e, "with", what)
		cancel()
		f := fault.From(err)
		if f == nil || f.Kind != kind {
			t.Errorf("%s: %+v", what, f)
		} else if what == "panic" && !strings.Contains(f.Detail, "a/x.go:4:9: panic: a.Do(") {
			t.Errorf("the panic is at %q", f.Detail)
		}
		if a, err := invoke(t.Context(), e, "with", ""); err != nil || a.body.String() != "7" {
			t.Errorf("the call after %s: %v", what, err)
		}
	}
}

// However many files are wrong, the first findings are told, and no more than a person reads.
func TestManyWrongFiles(t *testing.T) {
	t.Parallel()
	wrong := "package main\n" + strings.Repeat("func )\n", 12)
	loaded, err := yaegi.New().Load(t.Context(), engine.Bundle{
		Hash: "wrong", Script: "wrong", Files: sources("a.go", wrong, "b.go", wrong, "c.go", "", "d.go", "", "e.go", wrong),
	})
	if f := fault.From(err); f == nil || f.Kind != fault.Compile || len(loaded.Diagnostics) < 20 || loaded.Diagnostics[0].File != "a.go" {
		t.Errorf("%v, %d findings", err, len(loaded.Diagnostics))
	}
}
