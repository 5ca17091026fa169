package tenant_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/picloud/picloud/core/tenant"
)

// linkable makes scripts of texts such as "main: greet text" and "module greet: text"; each has version 1.
func linkable(texts ...string) []tenant.Script {
	var scripts []tenant.Script
	for _, text := range texts {
		name, imports, _ := strings.Cut(text, ":")
		s := tenant.Script{ID: uuid.New(), Kind: tenant.KindEndpoint, Engine: "yaegi", Version: 1, Imports: strings.Fields(imports)}
		if module, ok := strings.CutPrefix(name, "module "); ok {
			name, s.Kind = module, tenant.KindModule
		}
		s.Name, s.VersionHash = name, "hash of "+name
		scripts = append(scripts, s)
	}
	return scripts
}

func TestLink(t *testing.T) {
	t.Parallel()
	scripts := linkable("main: greet text", "other:", "module greet: text", "module text:", "module unused: greet")
	if err := tenant.Link(scripts); err != nil {
		t.Fatal(err)
	}
	main, other, text := &scripts[0], &scripts[1], &scripts[3]
	if len(main.Modules) != 2 || main.Modules[0].Name != "greet" || main.Modules[1] != (tenant.Module{Script: text.ID, Name: "text", Version: 1}) {
		t.Errorf("main needs %+v", main.Modules)
	}
	if other.Hash != other.VersionHash || other.Modules != nil || main.Hash == main.VersionHash {
		t.Errorf("the hashes are %q and %q", other.Hash, main.Hash)
	}
	before := map[string]string{}
	for _, s := range scripts {
		before[s.Name] = s.Hash
	}
	text.Version, text.VersionHash = 2, "another"
	if err := tenant.Link(scripts); err != nil {
		t.Fatal(err)
	}
	for _, s := range scripts {
		if changed := s.Hash != before[s.Name]; changed != (s.Name != "other") {
			t.Errorf("a change of text changes %s: %t", s.Name, changed)
		}
	}
	text.Version, text.VersionHash = 1, "hash of text"
	if err := tenant.Link(scripts); err != nil || main.Hash != before["main"] {
		t.Errorf("going back gives %q, %v; want %q", main.Hash, err, before["main"])
	}
}

func TestLinkRefuses(t *testing.T) {
	t.Parallel()
	deep := func(n int) []string {
		texts := []string{"main: m1"}
		for i := range n {
			texts = append(texts, fmt.Sprintf("module m%d: m%d", i+1, i+2))
		}
		texts[n] = fmt.Sprintf("module m%d:", n)
		return texts
	}
	if err := tenant.Link(linkable(deep(tenant.MaxModuleDepth)...)); err != nil {
		t.Errorf("at the greatest depth: %v", err)
	}
	for _, c := range []struct {
		scripts []string
		want    string
	}{
		{[]string{"main: gret", "module greet:"}, `the script "main" imports the module "gret", which is not there; modules of the engine yaegi: greet`},
		{[]string{"main: gret"}, `modules of the engine yaegi: none`},
		{[]string{"main: other", "other:"}, `the script "main" imports "other", which is an endpoint and no module`},
		{[]string{"main: a", "module a: b", "module b: a"}, `import cycle: a imports b imports a`},
		{[]string{"module a: a"}, `import cycle: a imports a`},
		{[]string{"module c: a", "module a: b", "module b: c"}, `import cycle: c imports a imports b imports c`},
		{deep(tenant.MaxModuleDepth + 1), `the script "main" has more than 8 modules below it`},
		{[]string{"main: a", "module a: b"}, `the script "a" imports the module "b", which is not there`},
	} {
		err := tenant.Link(linkable(c.scripts...))
		if unlinked := (*tenant.Unlinked)(nil); !errors.As(err, &unlinked) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v; want %q", c.scripts, err, c.want)
		}
	}
	scripts := linkable("main: greet", "module greet:")
	scripts[1].Engine = "starlark"
	if err := tenant.Link(scripts); err == nil || !strings.Contains(err.Error(), "of the engine starlark, but runs on the engine yaegi") {
		t.Errorf("across engines: %v", err)
	}
	scripts[1].Engine, scripts[1].Version = "yaegi", 0
	if err := tenant.Link(scripts); err == nil || scripts[0].Modules != nil || scripts[0].Hash != scripts[0].VersionHash {
		t.Errorf("a module without a version: %v, %+v", err, scripts[0])
	}
}

// Whatever imports whatever: what links has all that its modules need, and what is affected is what has the script in it.
func TestLinkIsClosed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(t, "scripts")
		texts := make([]string, n)
		for i := range texts {
			texts[i] = fmt.Sprintf("module m%d:", i)
			for _, x := range rapid.SliceOfNDistinct(rapid.IntRange(0, n), 0, 3, rapid.ID[int]).Draw(t, texts[i]) {
				texts[i] += fmt.Sprintf(" m%d", x)
			}
		}
		scripts := linkable(texts...)
		err := tenant.Link(scripts)
		byName := map[string]*tenant.Script{}
		for i := range scripts {
			byName[scripts[i].Name] = &scripts[i]
		}
		for i := range scripts {
			s := &scripts[i]
			if s.Hash == s.VersionHash {
				if err == nil && len(s.Imports) > 0 {
					t.Fatalf("%s is not linked in %q", s.Name, texts)
				}
				continue
			}
			names := s.Imports
			for _, m := range s.Modules {
				names = append(slices.Clone(names), byName[m.Name].Imports...)
			}
			for _, name := range names {
				if name == s.Name || !slices.ContainsFunc(s.Modules, func(m tenant.Module) bool { return m.Name == name }) {
					t.Fatalf("%s lacks %s in %q", s.Name, name, texts)
				}
			}
		}
		for _, m := range scripts {
			affected := tenant.Affected(scripts, m.Name)
			for i := range scripts {
				s := &scripts[i]
				has := s.Name == m.Name || slices.ContainsFunc(s.Modules, func(x tenant.Module) bool { return x.Name == m.Name })
				if has && !slices.Contains(affected, s) || !has && err == nil && slices.Contains(affected, s) {
					t.Fatalf("a change of %s in %q affects %s: %t", m.Name, texts, s.Name, !has)
				}
			}
		}
	})
}
