package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// words are those of the language by their names.
var words = map[string]func(*machine) error{
	"null": value(nil), "true": value(true), "false": value(false),

	"dup":  func(m *machine) error { return m.pick(1) },
	"over": func(m *machine) error { return m.pick(2) },
	"drop": func(m *machine) error { _, err := m.pop(); return err },
	"swap": func(m *machine) error {
		if len(m.stack) < 2 {
			return errors.New("the stack has no two values")
		}
		top := m.stack[len(m.stack)-2:]
		top[0], top[1] = top[1], top[0]
		return nil
	},

	"+":   two(add),
	"-":   two(func(a, b float64) (any, error) { return a - b, nil }),
	"*":   two(func(a, b float64) (any, error) { return a * b, nil }),
	"/":   two(func(a, b float64) (any, error) { return divided(a/b, b) }),
	"mod": two(func(a, b float64) (any, error) { return divided(math.Mod(a, b), b) }),

	"=":  two(func(a, b any) (any, error) { return same(a, b) }),
	"<>": two(func(a, b any) (any, error) { is, err := same(a, b); return !is, err }),
	"<":  two(func(a, b any) (any, error) { order, err := compare(a, b); return order < 0, err }),
	">":  two(func(a, b any) (any, error) { order, err := compare(a, b); return order > 0, err }),
	"<=": two(func(a, b any) (any, error) { order, err := compare(a, b); return order <= 0, err }),
	">=": two(func(a, b any) (any, error) { order, err := compare(a, b); return order >= 0, err }),

	"and": two(func(a, b bool) (any, error) { return a && b, nil }),
	"or":  two(func(a, b bool) (any, error) { return a || b, nil }),
	"not": one(func(a bool) (any, error) { return !a, nil }),
	"default": two(func(a, b any) (any, error) {
		if a == nil {
			return b, nil
		}
		return a, nil
	}),

	"length": one(length),
	"get":    two(get),
	"set": func(m *machine) error {
		v, err := m.pop()
		if err != nil {
			return err
		}
		return two(func(table map[string]any, name string) (any, error) {
			changed := maps.Clone(table)
			changed[name] = v
			return changed, nil
		})(m)
	},
	"append": two(func(list []any, v any) (any, error) { return joined(list, []any{v}) }),
	"slice": func(m *machine) error {
		to, err := take[float64](m)
		if err != nil {
			return err
		}
		return two(func(of any, from float64) (any, error) { return slice(of, int(from), int(to)) })(m)
	},
	"sort": one(sorted),
	"reverse": one(func(list []any) (any, error) {
		list = slices.Clone(list)
		slices.Reverse(list)
		return list, nil
	}),

	"text":  one(func(v any) (any, error) { return text(v) }),
	"bytes": one(toBytes),
	"number": one(func(text string) (any, error) {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return nil, fmt.Errorf("%q is no number", text)
		}
		return n, nil
	}),
	"json": one(func(text string) (v any, err error) {
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			return nil, fmt.Errorf("the text is no JSON: %w", err)
		}
		return v, nil
	}),
	"split": two(func(text, by string) (any, error) {
		if strings.Count(text, by) >= maxList {
			return nil, tooLong
		}
		list := []any{}
		for part := range strings.SplitSeq(text, by) {
			list = append(list, part)
		}
		return list, nil
	}),
	"join":   two(join),
	"copies": two(copies),
	"starts": two(func(text, with string) (any, error) { return strings.HasPrefix(text, with), nil }),
}

func init() { maps.Copy(words, platform) }

// value makes a word that puts a value on the stack, one makes a word of a function of one value, two of two.
func value(v any) func(*machine) error { return func(m *machine) error { return m.push(v) } }

func one[A any](f func(A) (any, error)) func(*machine) error {
	return func(m *machine) error {
		a, err := arg[A](m)
		if err != nil {
			return err
		}
		v, err := f(a)
		if err != nil {
			return err
		}
		return m.push(v)
	}
}

func two[A, B any](f func(A, B) (any, error)) func(*machine) error {
	return func(m *machine) error {
		b, err := arg[B](m)
		if err != nil {
			return err
		}
		return one(func(a A) (any, error) { return f(a, b) })(m)
	}
}

// arg is take, which takes anything as an any: null is no value of a type in Go.
func arg[T any](m *machine) (v T, err error) {
	if p, ok := any(&v).(*any); ok {
		*p, err = m.pop()
		return v, err
	}
	return take[T](m)
}

// pick puts a copy of the nth value from the top on the stack.
func (m *machine) pick(n int) error {
	if len(m.stack) < n {
		return fmt.Errorf("the stack has less than %d values", n)
	}
	return m.push(m.stack[len(m.stack)-n])
}

var tooLong = errors.New("the text or list would be too long")

func add(a, b any) (any, error) {
	switch a := a.(type) {
	case float64:
		if b, ok := b.(float64); ok {
			return a + b, nil
		}
	case string:
		if b, ok := b.(string); ok {
			if len(a)+len(b) > maxText {
				return nil, tooLong
			}
			return a + b, nil
		}
	case []any:
		if b, ok := b.([]any); ok {
			return joined(a, b)
		}
	}
	return nil, fmt.Errorf("a %s and a %s cannot be added", kind(a), kind(b))
}

func joined(a, b []any) (any, error) {
	if len(a)+len(b) > maxList {
		return nil, tooLong
	}
	return slices.Concat(a, b), nil
}

func divided(v, by float64) (any, error) {
	if by == 0 {
		return nil, errors.New("division by zero")
	}
	return v, nil
}

func same(a, b any) (bool, error) {
	if _, err := weigh(a, 0, maxJSON); err != nil {
		return false, err
	}
	return equal(a, b), nil
}

func length(v any) (any, error) {
	switch v := v.(type) {
	case string:
		return float64(len(v)), nil
	case []byte:
		return float64(len(v)), nil
	case []any:
		return float64(len(v)), nil
	case map[string]any:
		return float64(len(v)), nil
	}
	return nil, fmt.Errorf("a %s has no length", kind(v))
}

func get(of, key any) (any, error) {
	if table, ok := of.(map[string]any); ok {
		name, ok := key.(string)
		if !ok {
			return nil, fmt.Errorf("the names in a map are texts, not a %s", kind(key))
		}
		return table[name], nil
	}
	n, ok := key.(float64)
	if !ok {
		return nil, fmt.Errorf("a %s has nothing that a %s names", kind(of), kind(key))
	}
	part, err := slice(of, int(n), int(n)+1)
	if err != nil {
		return nil, err
	}
	switch part := part.(type) {
	case []any:
		return part[0], nil
	case []byte:
		return float64(part[0]), nil
	}
	return part, nil
}

func slice(of any, from, to int) (any, error) {
	n, err := length(of)
	if err != nil {
		return nil, err
	}
	if size := int(n.(float64)); from < 0 || to < from || to > size {
		return nil, fmt.Errorf("there is nothing from %d to %d in %d", from, to, size)
	}
	switch of := of.(type) {
	case string:
		return of[from:to], nil
	case []byte:
		return of[from:to:to], nil
	case []any:
		return of[from:to:to], nil
	}
	return nil, fmt.Errorf("a %s has no parts in order", kind(of))
}

func sorted(list []any) (any, error) {
	if _, err := weigh(list, 0, maxSort); err != nil {
		return nil, err
	}
	list = slices.Clone(list)
	var failed error
	slices.SortStableFunc(list, func(a, b any) int {
		order, err := compare(a, b)
		if failed == nil {
			failed = err
		}
		return order
	})
	return list, failed
}

func toBytes(v any) (any, error) {
	switch v := v.(type) {
	case string:
		return []byte(v), nil
	case []any:
		b := make([]byte, len(v))
		for i, part := range v {
			n, ok := part.(float64)
			if !ok || n != math.Trunc(n) || n < 0 || n > 255 {
				return nil, errors.New("bytes are numbers from 0 to 255")
			}
			b[i] = byte(n)
		}
		return b, nil
	}
	return nil, fmt.Errorf("a %s cannot be made bytes", kind(v))
}

func join(list []any, by string) (any, error) {
	parts := make([]string, len(list))
	size := 0
	for i, v := range list {
		part, err := text(v)
		if err != nil {
			return nil, err
		}
		if size += len(part) + len(by); size > maxText {
			return nil, tooLong
		}
		parts[i] = part
	}
	return strings.Join(parts, by), nil
}

func copies(text string, n float64) (any, error) {
	if n < 0 || n*float64(len(text)) > maxText || n > maxText {
		return nil, tooLong
	}
	return strings.Repeat(text, int(n)), nil
}
