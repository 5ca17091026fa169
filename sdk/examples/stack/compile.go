package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/script"
)

// op is one word of a program.
type op struct {
	do func(*machine) error
	at place
}

type place struct {
	file         string
	line, column int // the column in bytes
}

// definition is a word of a script's own, or its program.
type definition struct {
	name   string
	body   []op
	locals map[string]int // by name, the place in a call's values
}

// maxNesting bounds how deep words that have an end may stand in one another.
const maxNesting = 50

// compiler compiles one bundle. Its errors are *engine.Diagnostic, which it panics with inside.
type compiler struct {
	bundle  engine.Bundle
	units   map[string]map[string]*definition // of the sources that were imported, by path; nil while it is compiled
	imports []string
}

// compile compiles a bundle. Imports are there where it is wrong, too.
func compile(b engine.Bundle) (program *definition, imports []string, wrong *engine.Diagnostic) {
	c := &compiler{bundle: b, units: map[string]map[string]*definition{}}
	defer func() {
		imports = slices.Compact(slices.Sorted(slices.Values(c.imports)))
		if r := recover(); r != nil {
			d, ok := r.(*engine.Diagnostic)
			if !ok {
				panic(r)
			}
			wrong = d
		}
	}()
	u := c.source(b.Files, b.Files[0], "")
	if b.Module {
		u.onlyDefines()
	}
	return u.program, nil, nil
}

// unit is one source while it is compiled.
type unit struct {
	*compiler
	files   []engine.File // it may import the others
	module  string        // that it belongs to; empty: the script
	rest    string        // of the source
	at      place         // of rest
	known   map[string]*definition
	own     map[string]*definition
	program *definition
	current *definition
	nesting int
}

func (c *compiler) source(files []engine.File, f engine.File, module string) *unit {
	u := &unit{
		compiler: c, files: files, module: module, rest: string(f.Data), at: place{f.Name, 1, 1},
		known: map[string]*definition{}, own: map[string]*definition{}, program: &definition{locals: map[string]int{}},
	}
	if module != "" {
		u.at.file = module + "/" + f.Name
	}
	if !utf8.ValidString(u.rest) {
		u.wrong(u.at, "the source is not UTF-8")
	}
	u.current = u.program
	u.program.body, _ = u.block("")
	return u
}

func (u *unit) wrong(at place, format string, args ...any) {
	panic(&engine.Diagnostic{File: at.file, Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...)})
}

func (u *unit) onlyDefines() {
	if len(u.program.body) > 0 {
		u.wrong(u.program.body[0].at, "a source that others import has definitions only")
	}
}

// take removes n bytes from the rest.
func (u *unit) take(n int) string {
	text := u.rest[:n]
	u.rest = u.rest[n:]
	if lines := strings.Count(text, "\n"); lines > 0 {
		u.at.line, u.at.column = u.at.line+lines, n-strings.LastIndexByte(text, '\n')
	} else {
		u.at.column += n
	}
	return text
}

const space = " \t\r\n"

// next returns the next word, empty at the end, and where it is.
func (u *unit) next() (string, place) {
	for {
		u.take(len(u.rest) - len(strings.TrimLeft(u.rest, space)))
		at := u.at
		if strings.HasPrefix(u.rest, `"`) {
			return u.quoted(), at
		}
		end := strings.IndexAny(u.rest, space)
		if end < 0 {
			end = len(u.rest)
		}
		switch word := u.take(end); word {
		case `\`:
			u.skip("\n")
		case "(":
			if !u.skip(")") {
				u.wrong(at, "the comment has no end")
			}
		default:
			return word, at
		}
	}
}

// skip removes what there is up to and with an end. Without one it removes all.
func (u *unit) skip(end string) bool {
	i := strings.Index(u.rest, end)
	if i < 0 {
		u.take(len(u.rest))
		return false
	}
	u.take(i + len(end))
	return true
}

// quoted takes a text, with its quotes.
func (u *unit) quoted() string {
	for i := 1; i < len(u.rest); i++ {
		switch u.rest[i] {
		case '\\':
			i++
		case '"':
			if i++; i < len(u.rest) && !strings.ContainsRune(space, rune(u.rest[i])) {
				u.wrong(u.at, "white space is missing behind the text")
			}
			return u.take(i)
		}
	}
	u.wrong(u.at, "the text has no end")
	return ""
}

// block compiles words up to one of the ends, which it returns.
func (u *unit) block(ends ...string) (body []op, end string) {
	if u.nesting++; u.nesting > maxNesting {
		u.wrong(u.at, "words stand in one another more than %d deep", maxNesting)
	}
	defer func() { u.nesting-- }()
	begin := u.at
	for {
		word, at := u.next()
		switch {
		case slices.Contains(ends, word):
			return body, word
		case word == "":
			u.wrong(begin, "%s is missing for what begins before this", ends[0])
		}
		if do := u.word(word, at); do != nil {
			body = append(body, op{do, at})
		}
	}
}

// word compiles one word. nil: there is nothing to run.
func (u *unit) word(word string, at place) func(*machine) error {
	switch word {
	case ":":
		u.define(at)
		return nil
	case "import":
		u.use()
		return nil
	case "->":
		name := u.name()
		slot, known := u.current.locals[name]
		if !known {
			slot = len(u.current.locals)
			u.current.locals[name] = slot
		}
		return func(m *machine) error { return m.name(slot) }
	case "[", "{":
		return u.collect(word)
	case "if":
		yes, end := u.block("then", "else")
		var no []op
		if end == "else" {
			no, _ = u.block("then")
		}
		return func(m *machine) error { return m.choose(yes, no) }
	case "each":
		body, _ := u.block("next")
		return func(m *machine) error { return m.each(body) }
	case "begin":
		test, end := u.block("again", "until", "while")
		var body []op
		if end == "while" {
			body, _ = u.block("repeat")
		}
		return func(m *machine) error { return m.loop(test, end, body) }
	case "try":
		name, at := u.next()
		do := u.plain(name, at)
		return func(m *machine) error { return m.try(op{do, at}) }
	}
	return u.plain(word, at)
}

// plain compiles a word that is a value or has a name.
func (u *unit) plain(word string, at place) func(*machine) error {
	if digits := strings.TrimPrefix(word, "-"); word != "" && (word[0] == '"' || digits != "" && digits[0] >= '0' && digits[0] <= '9') {
		var value any
		if err := json.Unmarshal([]byte(word), &value); err != nil {
			u.wrong(at, "%s is no number and no text: %v", word, err)
		}
		return func(m *machine) error { return m.push(value) }
	}
	if slot, local := u.current.locals[word]; local {
		return func(m *machine) error { return m.push(m.frame[slot]) }
	}
	if d := cmp.Or(u.own[word], u.known[word]); d != nil {
		return func(m *machine) error { return m.call(d) }
	}
	do := words[word]
	if do == nil {
		u.wrong(at, "there is no word %q", word)
	}
	return do
}

// name takes a word that names something of the script's own.
func (u *unit) name() string {
	word, at := u.next()
	if word == "" || word[0] == '"' || strings.ContainsAny(word[:1], "0123456789;[]{}") {
		u.wrong(at, "%q is no name", word)
	}
	return word
}

func (u *unit) define(at place) {
	if u.current != u.program || u.nesting > 1 {
		u.wrong(at, "a definition stands in nothing else")
	}
	d := &definition{name: u.name(), locals: map[string]int{}}
	if u.own[d.name] != nil || u.known[d.name] != nil {
		u.wrong(at, "there is a word %q already", d.name)
	}
	u.own[d.name], u.current = d, d
	d.body, _ = u.block(";")
	u.current = u.program
}

func (u *unit) collect(begin string) func(*machine) error {
	if begin == "[" {
		body, _ := u.block("]")
		return func(m *machine) error { return m.list(body) }
	}
	body, _ := u.block("}")
	return func(m *machine) error { return m.table(body) }
}

// use compiles what is imported, once.
func (u *unit) use() {
	path, at := u.next()
	name, isModule := strings.CutPrefix(path, script.ModulePrefix)
	module, files, key := u.module, u.files, u.module+" "+path
	var i int
	if isModule {
		if u.module == "" {
			u.imports = append(u.imports, name)
		}
		i = slices.IndexFunc(u.bundle.Modules, func(m engine.Module) bool { return m.Name == name })
		if i < 0 {
			var there []string
			for _, m := range u.bundle.Modules {
				there = append(there, m.Name)
			}
			u.wrong(at, "%s", script.NoModule(name, there))
		}
		module, files, key, i = name, u.bundle.Modules[i].Files, path, 0
	} else if i = slices.IndexFunc(files, func(f engine.File) bool { return "./"+f.Name == path }); i < 0 {
		u.wrong(at, "%q is neither app/… nor another file of the script, ./…", path)
	}
	defined, begun := u.units[key]
	if begun && defined == nil {
		u.wrong(at, "%s imports itself, through others", path)
	}
	if !begun {
		u.units[key] = nil
		imported := u.source(files, files[i], module)
		imported.onlyDefines()
		defined = imported.own
		u.units[key] = defined
	}
	for name := range defined {
		if u.own[name] != nil || u.known[name] != nil && u.known[name] != defined[name] {
			u.wrong(at, "there is a word %q already", name)
		}
	}
	maps.Copy(u.known, defined)
}
