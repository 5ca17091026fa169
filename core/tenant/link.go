package tenant

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MaxModuleDepth is how many modules may stand below a script, one importing the next.
const MaxModuleDepth = 8

// Unlinked says why a script cannot have what it imports. The message is for the author.
type Unlinked struct {
	Script  string // name
	Message string
}

func (u *Unlinked) Error() string { return fmt.Sprintf("the script %q %s", u.Script, u.Message) }

// Link resolves what the active versions of an app's scripts import, and what that imports in turn: it sets Hash and Modules
// of each script. One that cannot have what it imports stays without modules; the first of them is returned as *Unlinked.
func Link(scripts []Script) error {
	l := linker{scripts: make(map[string]*Script, len(scripts)), done: make(map[string]*linked, len(scripts))}
	for i := range scripts {
		l.scripts[scripts[i].Name] = &scripts[i]
	}
	var first *Unlinked
	for i := range scripts {
		s := &scripts[i]
		s.Hash, s.Modules = s.VersionHash, nil
		if len(s.Imports) == 0 || s.Version == 0 {
			continue
		}
		needs := l.link(s)
		if needs.err != nil {
			if first == nil {
				first = needs.err
			}
			continue
		}
		h := hasher{sha256.New()}
		h.text(s.VersionHash)
		for _, name := range slices.Sorted(maps.Keys(needs.modules)) {
			m := l.scripts[name]
			s.Modules = append(s.Modules, Module{Script: m.ID, Name: name, Version: m.Version})
			h.text(name)
			h.text(m.VersionHash)
		}
		s.Hash = h.sum()
	}
	if first != nil {
		return first
	}
	return nil
}

// linker walks what scripts import.
type linker struct {
	scripts map[string]*Script
	done    map[string]*linked
	path    []string // from the script where the walk began to the one where it is
}

// linked is what a script needs, or why it cannot have it.
type linked struct {
	modules map[string]bool
	depth   int // of the modules below it
	err     *Unlinked
}

func (l *linker) link(s *Script) *linked {
	if known := l.done[s.Name]; known != nil {
		return known
	}
	needs := &linked{modules: map[string]bool{}}
	l.path = append(l.path, s.Name)
	for _, name := range s.Imports {
		if needs.err = l.add(needs, s, name); needs.err != nil {
			break
		}
	}
	l.path = l.path[:len(l.path)-1]
	l.done[s.Name] = needs
	return needs
}

// add makes the module name, and what it needs, a part of what s needs.
func (l *linker) add(needs *linked, s *Script, name string) *Unlinked {
	refuse := func(format string, args ...any) *Unlinked {
		return &Unlinked{Script: s.Name, Message: fmt.Sprintf(format, args...)}
	}
	if at := slices.Index(l.path, name); at >= 0 {
		return refuse("is in an import cycle: %s", strings.Join(append(slices.Clone(l.path[at:]), name), " imports "))
	}
	m := l.scripts[name]
	switch {
	case m == nil || m.Kind == KindModule && m.Version == 0:
		return refuse("imports the module %q, which is not there; modules of the engine %s: %s", name, s.Engine, l.modules(s.Engine))
	case m.Kind != KindModule:
		return refuse("imports %q, which is an endpoint and no module", name)
	case m.Engine != s.Engine:
		return refuse("imports the module %q of the engine %s, but runs on the engine %s", name, m.Engine, s.Engine)
	}
	below := l.link(m)
	if below.err != nil {
		return below.err
	}
	maps.Copy(needs.modules, below.modules)
	needs.modules[name] = true
	if needs.depth = max(needs.depth, below.depth+1); needs.depth > MaxModuleDepth {
		return refuse("has more than %d modules below it that import one another, through %q", MaxModuleDepth, name)
	}
	return nil
}

// modules lists the modules of an engine that can be imported.
func (l *linker) modules(engine string) string {
	var names []string
	for name, s := range l.scripts {
		if s.Kind == KindModule && s.Engine == engine && s.Version > 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// Affected returns the script of a name and all whose bundles have it in them, by what the active versions import. The script
// itself is the first.
func Affected(scripts []Script, name string) []*Script {
	var found []*Script
	if i := slices.IndexFunc(scripts, func(s Script) bool { return s.Name == name }); i >= 0 {
		found = append(found, &scripts[i])
	}
	for at := 0; at < len(found); at++ {
		for i := range scripts {
			s := &scripts[i]
			if slices.Contains(s.Imports, found[at].Name) && !slices.Contains(found, s) {
				found = append(found, s)
			}
		}
	}
	return found
}
