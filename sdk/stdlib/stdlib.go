// Package stdlib is the small standard library of scripts in languages that bring little: encodings, hashes, random values, regular
// expressions, CSV, URLs and times. It is one table of functions, which the engines for JavaScript and Starlark show in their
// language's way, and from which the reference is made. Go scripts have Go's own packages.
//
// The functions only compute, in the engine's process. What they take and give is bounded, as a single call cannot be interrupted.
package stdlib

import (
	"fmt"
	"slices"
	"time"
)

const (
	// MaxInput is how much a call takes, in bytes of all its arguments: as much as a file that is read at once.
	MaxInput = 8 << 20
	// MaxOutput is how much a call gives, in bytes.
	MaxOutput = 16 << 20
)

// Kind is what an argument or a result is. The comments say in which form Call takes and returns it.
type Kind int

// The kinds.
const (
	Text   Kind = iota // string
	Data               // []byte; scripts give bytes, or a text that stands for its UTF-8
	Number             // int64, exact in every language: at most 2^53 either way
	Float              // float64
	Bool               // bool
	Rows               // [][]string: a list of lists of texts
	Fields             // map[string][]string: by names texts, or lists of them
	Object             // map[string]any of texts, numbers and lists of texts, nil: there is nothing
	List               // []any of such objects or texts
	Time               // time.Time
)

// Param is one argument.
type Param struct {
	Name string
	Kind Kind
	// Default is what an argument is that is left out; such arguments are given by their names. Nil: it has to be given.
	Default any
}

// Function is one function as scripts see it.
type Function struct {
	Module, Name string // in snake_case
	Params       []Param
	Result       Kind
	TS           string // what it returns in TypeScript; empty: JavaScript has its own, see JS
	Go           string // what Go scripts have in its place
	JS           string // what JavaScript has in its place, if anything
	Starlark     string // what Starlark has of its own in its place; empty: the function itself
	Says         string

	call      func(args []any) (any, error)
	searching func(stop func() bool, args []any) (any, error) // in place of call, where it takes long
}

// Title is how scripts call it, and errors: "hash.hmac_sha256".
func (f *Function) Title() string { return f.Module + "." + f.Name }

// Call calls the function. args are as many as Params, each of the form of its kind or nil where it was left out. Errors are the
// script's, and begin with the function's name. What takes long asks stop now and then whether the run is over. Safe for concurrent
// use.
func (f *Function) Call(stop func() bool, args []any) (v any, err error) {
	if len(args) != len(f.Params) {
		return nil, fmt.Errorf("%s takes %d arguments, not %d", f.Title(), len(f.Params), len(args))
	}
	args = slices.Clone(args)
	taken := 0
	for i, p := range f.Params {
		if args[i] == nil {
			args[i] = p.Default
		}
		if !p.Kind.holds(args[i]) {
			return nil, fmt.Errorf("%s: %s has to be %s", f.Title(), p.Name, names[p.Kind])
		}
		taken += size(args[i])
	}
	if taken > MaxInput {
		return nil, fmt.Errorf("%s takes up to %d MiB, not %d bytes", f.Title(), MaxInput>>20, taken)
	}
	if f.searching != nil {
		v, err = f.searching(stop, args)
	} else {
		v, err = f.call(args)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Title(), err)
	}
	return v, nil
}

var names = map[Kind]string{
	Text: "a text", Data: "a text or bytes", Number: "a whole number", Float: "a number", Bool: "true or false",
	Rows: "a list of lists of texts", Fields: "texts, or lists of them, by their names", Time: "a time",
}

func (k Kind) holds(v any) (ok bool) {
	switch k {
	case Text:
		_, ok = v.(string)
	case Data:
		_, ok = v.([]byte)
	case Number:
		var n int64
		n, ok = v.(int64)
		ok = ok && n >= -maxInt && n <= maxInt
	case Float:
		_, ok = v.(float64)
	case Bool:
		_, ok = v.(bool)
	case Rows:
		_, ok = v.([][]string)
	case Fields:
		_, ok = v.(map[string][]string)
	case Time:
		_, ok = v.(time.Time)
	}
	return ok
}

// maxInt is the largest number up to which every language counts exactly.
const maxInt = 1 << 53

// size is how many bytes an argument takes. Parts of lists count for what holds them, too.
func size(v any) (n int) {
	switch v := v.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	case [][]string:
		for _, row := range v {
			n += partSize
			for _, cell := range row {
				n += partSize + len(cell)
			}
		}
	case map[string][]string:
		for name, values := range v {
			n += partSize + len(name)
			for _, value := range values {
				n += partSize + len(value)
			}
		}
	}
	return n
}

// partSize is what each part of a list takes beside its text.
const partSize = 8

// tooMuch is the error of a result that is too large.
func tooMuch() error { return fmt.Errorf("the result would have more than %d MiB", MaxOutput>>20) }
