package js

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"modernc.org/quickjs"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/script"
	"github.com/picloud/picloud/sdk/watch"
)

//go:embed prelude.js
var prelude string

// What stands around the text of a script: a function of its own, so that it may wait where it stands outside of functions,
// on lines that the prelude has not, so that places tell the two apart.
var (
	before = strings.Count(prelude, "\n") + 2
	head   = strings.Repeat("\n", before-1) + "(async ($picloud, $loaded) => {\"use strict\";\n"
	tail   = "\n})"
)

// preludeCode is the compiled prelude.
var preludeCode = sync.OnceValues(func() ([]byte, error) {
	vm, err := quickjs.NewVM()
	if err != nil {
		return nil, err
	}
	defer vm.Close()
	return vm.Compile(prelude, quickjs.EvalGlobal)
})

// Limits where the bundle's do not say.
const (
	memoryLimit = 64 << 20
	waitLimit   = 10_000 // timers and calls of the host that a run may wait for at one time
)

// program is a loaded script. It does not change.
type program struct {
	name   string // of the first file
	code   []byte // compiled
	places *sourceMap
	watch  *watch.Watch
	memory int // of an interpreter, in bytes
	cpu    time.Duration
	waits  int
	body   int // bytes of an answer
	// imports are the names of the modules that the script's own files import, sorted.
	imports []string
}

// compile makes a program of a bundle, and finds what its own files import. Diagnostics that are no warnings say that there is none.
func compile(b *engine.Bundle, w *watch.Watch) (*program, []string, []engine.Diagnostic, error) {
	x := newBundler(b)
	p := &program{watch: w, memory: b.Limits.Memory, cpu: b.Limits.CPU, waits: b.Limits.Goroutines, body: b.Limits.BodyBytes}
	if p.memory <= 0 {
		p.memory = memoryLimit
	}
	if p.waits <= 0 {
		p.waits = waitLimit
	}
	if p.body <= 0 {
		p.body = script.BodyLimit
	}
	if len(b.Files) > 0 {
		p.name = x.entries[scriptSpace]
		if len(bytes.TrimSpace(b.Files[0].Data)) == 0 {
			return nil, nil, []engine.Diagnostic{{
				File: p.name, Line: 1, Column: 1, Message: "the file is empty; a script has an export default function handle(ctx)",
			}}, nil
		}
	}
	text, places, found, err := x.run()
	imports := x.sortedImports()
	if err != nil || text == nil {
		return nil, imports, found, err
	}
	p.places = places
	vm, err := quickjs.NewVM()
	if err != nil {
		return nil, imports, nil, fmt.Errorf("make an interpreter: %w", err)
	}
	defer vm.Close()
	vm.SetMemoryLimit(uintptr(p.memory))
	p.code, err = vm.Compile(head+string(text)+tail, quickjs.EvalGlobal)
	var wrong *quickjs.Error
	if errors.As(err, &wrong) { // what the bundler lets pass, such as a pattern that is none
		return nil, imports, append(found, p.diagnose(wrong.Message, wrong.Stack)), nil
	}
	p.imports = imports
	return p, imports, found, err
}

// diagnose finds the place of an error.
func (p *program) diagnose(message, stack string) engine.Diagnostic {
	d := engine.Diagnostic{File: p.name, Line: 1, Column: 1, Message: message}
	if _, at := p.trace(stack); at != nil {
		d.File, d.Line, d.Column = at.file, at.line, at.column
	}
	return d
}

// failedToLoad says where what stands outside of functions failed.
func (p *program) failedToLoad(f *fault.Fault) engine.Diagnostic {
	d := engine.Diagnostic{File: p.name, Line: 1, Column: 1, Message: f.Message}
	if m := detailPlace.FindStringSubmatch(f.Detail); m != nil {
		d.File = m[1]
		d.Line, _ = strconv.Atoi(m[2])
		d.Column, _ = strconv.Atoi(m[3])
	}
	return d
}

// detailPlace is the first place in the detail of a fault.
var detailPlace = regexp.MustCompile(`(?m)^    at (?:.* \()?([^() ]+):(\d+):(\d+)\)?$`)

// number is one that a script gave, 0 where it is none.
func number(v any) float64 {
	switch n := v.(type) {
	case int:
		return float64(n)
	case float64:
		return n
	}
	return 0
}

// word is a text that a script gave.
func word(v any) string {
	s, _ := v.(string)
	return s
}
