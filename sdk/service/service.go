// Package service lists what scripts ask of the platform: one table, by which every engine makes calls that read like its
// language, and the reference is written. What the platform does is in core/service; how calls travel, in
// sdk/proto/engine/v1 (message Call).
package service

import "strings"

// Kind is what an argument may be.
type Kind int

// The kinds. Their fields travel as JSON of that type.
const (
	Text     Kind = iota
	Number        // a whole number
	Value         // whatever JSON has a form for
	Duration      // the field ends in _ms; a script's argument is named without it where its language has seconds
	Texts         // a list of texts
	Time          // by RFC 3339, as text or what a language has for it
	Data          // text, or bytes, which travel in a field that has _base64 behind its name
	Body          // as Data, or whatever else JSON has a form for
)

// Param is one argument of a method.
type Param struct {
	Field string // on the wire, in snake_case
	Kind  Kind
	// Option may be left out, and is given by its name.
	Option bool
}

// Method is one call as scripts see it.
type Method struct {
	Name string // in snake_case
	// Call is the method that is asked for; empty: Name.
	Call   string
	Params []Param
	// Result is the field of the answer that is returned, nothing where the answer lacks it; empty: the whole answer.
	Result string
	// TS is what stands before the arguments in TypeScript, if anything, and after the colon what is returned: "<T>: T".
	TS   string
	Go   string // how the call reads in Go
	Says string
}

// Service is what belongs together: ctx.kv("users") or, without a Handle, ctx.secrets.
type Service struct {
	Name string
	// Handle is the field that a script names once, when it opens the service; empty: there is none.
	Handle string
	Type   string // in the reference and in TypeScript
	Go     string // how it is opened in Go
	// Plain is a service whose methods are those of the context itself, ctx.call.
	Plain bool
	// Sends is a service to which engines add methods that send: they open it by themselves, under its name.
	Sends bool
	// Declares is what its methods return in TypeScript, if anything of its own.
	Declares string
	Says     string
	Methods  []Method
}

// Wire is the name that a method has on the wire.
func (m *Method) Wire() string {
	if m.Call != "" {
		return m.Call
	}
	return m.Name
}

// Camel is a name in snake_case as JavaScript spells it.
func Camel(name string) string {
	parts := strings.Split(name, "_")
	for i, p := range parts[1:] {
		if p != "" {
			parts[i+1] = strings.ToUpper(p[:1]) + p[1:]
		}
	}
	return strings.Join(parts, "")
}

// Seconds is what a duration's field is called where a language has seconds.
func (p *Param) Seconds() string { return strings.TrimSuffix(p.Field, "_ms") }
