package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

// What a run may take, beside what its limits say.
const (
	maxStack = 1 << 16 // values
	maxDepth = 1000    // calls in one another
	maxSteps = 1 << 30
	lookEach = 1 << 10 // steps, between looks at whether the run is over
	maxTrace = 10      // places that a failure tells of
)

// machine is one run: its stack, and the values that the current call has named.
type machine struct {
	run   *run
	ctx   *picloud.Context
	stack []any
	frame []any
	depth int
	steps int

	answered any // by respond or batch-result
}

// errAnswered ends a program that has answered.
var errAnswered = errors.New("answered")

// failure is an error with the places that led to it, the innermost first.
type failure struct {
	error
	at []string
}

func (f *failure) Unwrap() error { return f.error }

func (f *failure) trace() string { return strings.Join(f.at, "\n") }

// placed adds a place to an error.
func placed(err error, at place) error {
	if err == errAnswered {
		return err
	}
	f, ok := err.(*failure)
	if !ok {
		f = &failure{error: err}
	}
	if where := fmt.Sprintf("%s:%d:%d", at.file, at.line, at.column); len(f.at) < maxTrace {
		f.at = append(f.at, where)
	}
	return f
}

// answer runs a program and returns what it answers.
func (m *machine) answer(program *definition) (any, error) {
	switch err := m.call(program); {
	case err == errAnswered:
		return m.answered, nil
	case err != nil:
		return nil, err
	case len(m.stack) > 1:
		return nil, fmt.Errorf("%d values are left on the stack: an answer is one, such as a list", len(m.stack))
	case len(m.stack) == 1:
		return m.stack[0], nil
	}
	return nil, nil
}

func (m *machine) call(d *definition) error {
	if m.depth++; m.depth > maxDepth {
		return fault.New(fault.Limit, fault.Script, "calls are nested too deeply: %q is the one beyond %d", d.name, maxDepth)
	}
	outer := m.frame
	m.frame = make([]any, len(d.locals))
	err := m.exec(d.body)
	m.frame = outer
	m.depth--
	return err
}

func (m *machine) exec(body []op) error {
	for i := range body {
		if err := m.do(&body[i]); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) do(o *op) error {
	err := m.step()
	if err == nil {
		err = o.do(m)
	}
	if err != nil {
		return placed(err, o.at)
	}
	return nil
}

// step counts, and ends a run that is over.
func (m *machine) step() error {
	if m.steps++; m.steps > maxSteps {
		return fault.New(fault.Limit, fault.Script, "the script takes more than %d steps", maxSteps)
	}
	if m.steps%lookEach == 0 {
		return m.run.ended()
	}
	return nil
}

func (m *machine) push(v any) error {
	if len(m.stack) >= maxStack {
		return fault.New(fault.Limit, fault.Script, "more than %d values are on the stack", maxStack)
	}
	m.stack = append(m.stack, v)
	return nil
}

func (m *machine) pop() (any, error) {
	if len(m.stack) == 0 {
		return nil, errors.New("the stack is empty")
	}
	top := m.stack[len(m.stack)-1]
	m.stack[len(m.stack)-1] = nil // so that it can be collected
	m.stack = m.stack[:len(m.stack)-1]
	return top, nil
}

// take pops a value of a type.
func take[T any](m *machine) (v T, err error) {
	top, err := m.pop()
	if err != nil {
		return v, err
	}
	v, ok := top.(T)
	if !ok {
		return v, fmt.Errorf("this takes a %s, not a %s", kind(v), kind(top))
	}
	return v, nil
}

func (m *machine) name(slot int) error {
	v, err := m.pop()
	m.frame[slot] = v
	return err
}

func (m *machine) choose(yes, no []op) error {
	cond, err := take[bool](m)
	switch {
	case err != nil:
		return err
	case cond:
		return m.exec(yes)
	}
	return m.exec(no)
}

func (m *machine) loop(test []op, end string, body []op) error {
	for {
		if err := m.step(); err != nil {
			return err
		}
		if err := m.exec(test); err != nil {
			return err
		}
		if end == "again" {
			continue
		}
		cond, err := take[bool](m)
		if err != nil || cond == (end == "until") {
			return err
		}
		if err := m.exec(body); err != nil {
			return err
		}
	}
}

func (m *machine) each(body []op) error {
	of, err := m.pop()
	if err != nil {
		return err
	}
	var list []any
	n := 0
	switch of := of.(type) {
	case []any:
		list, n = of, len(of)
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(of)) {
			list = append(list, name)
		}
		n = len(list)
	case float64:
		n = int(min(of, maxSteps))
	default:
		return fmt.Errorf("a %s has nothing to go through", kind(of))
	}
	for i := range n {
		var v any = float64(i)
		if list != nil {
			v = list[i]
		}
		if err := m.step(); err != nil {
			return err
		}
		if err := m.push(v); err != nil {
			return err
		}
		if err := m.exec(body); err != nil {
			return err
		}
	}
	return nil
}

// collect runs words and takes what they have left on the stack.
func (m *machine) collect(body []op) ([]any, error) {
	base := len(m.stack)
	if err := m.exec(body); err != nil {
		return nil, err
	}
	if len(m.stack) < base {
		return nil, errors.New("the words in the brackets take what was before them")
	}
	list := slices.Clone(m.stack[base:])
	clear(m.stack[base:])
	m.stack = m.stack[:base]
	return list, nil
}

func (m *machine) list(body []op) error {
	list, err := m.collect(body)
	if err != nil {
		return err
	}
	return m.push(append([]any{}, list...)) // an empty list is not nil
}

func (m *machine) table(body []op) error {
	list, err := m.collect(body)
	if err != nil {
		return err
	}
	if len(list)%2 != 0 {
		return errors.New("a map is made of names and values, one of each in turn")
	}
	table := map[string]any{}
	for i := 0; i < len(list); i += 2 {
		name, ok := list[i].(string)
		if !ok {
			return fmt.Errorf("the names in a map are texts, not a %s", kind(list[i]))
		}
		table[name] = list[i+1]
	}
	return m.push(table)
}

// try runs a word. What ends runs is not kept from that.
func (m *machine) try(o op) error {
	before, frame, depth := slices.Clone(m.stack), m.frame, m.depth
	err := m.do(&o)
	if err == nil {
		return m.push(nil)
	}
	if end := (*fault.Fault)(nil); err == errAnswered || errors.As(err, &end) {
		return err
	}
	m.stack, m.frame, m.depth = before, frame, depth
	told := map[string]any{"code": "", "message": err.Error(), "retry_after": 0.0}
	if refused := (*picloud.Error)(nil); errors.As(err, &refused) {
		told = map[string]any{"code": refused.Code, "message": refused.Message, "retry_after": refused.RetryAfter.Seconds()}
	}
	return m.push(told)
}
