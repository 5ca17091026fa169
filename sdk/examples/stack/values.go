package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Bounds on single values, beside what a run may have in memory: nothing stops a word halfway.
const (
	maxText   = 16 << 20 // bytes
	maxList   = 1 << 20  // values
	maxJSON   = 16 << 20 // bytes and values to be written, or compared
	maxSort   = 1 << 17  // the same, to be sorted
	maxNested = 1000     // lists and maps in one another
)

// kind says in words what a value is.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case float64:
		return "number"
	case string:
		return "text"
	case []byte:
		return "value of bytes"
	case []any:
		return "list"
	}
	return "map"
}

// weigh returns what is left of a budget when a value has been gone through, negative if it is more.
func weigh(v any, depth, left int) (int, error) {
	if left--; left < 0 {
		return left, errors.New("the value is too large for this")
	}
	if depth > maxNested {
		return left, errors.New("lists and maps are nested too deeply")
	}
	var err error
	switch v := v.(type) {
	case string:
		left -= len(v)
	case []byte:
		left -= len(v)
	case []any:
		for i := 0; i < len(v) && err == nil; i++ {
			left, err = weigh(v[i], depth+1, left)
		}
	case map[string]any:
		for name, part := range v {
			if left, err = weigh(part, depth+1, left-len(name)); err != nil {
				break
			}
		}
	}
	return left, err
}

// hasBytes reports whether a value holds bytes, which JSON has no form for.
func hasBytes(v any) bool {
	switch v := v.(type) {
	case []byte:
		return true
	case []any:
		return slices.ContainsFunc(v, hasBytes)
	case map[string]any:
		for _, part := range v {
			if hasBytes(part) {
				return true
			}
		}
	}
	return false
}

// encode writes a value as JSON.
func encode(v any) ([]byte, error) {
	if _, err := weigh(v, 0, maxJSON); err != nil {
		return nil, err
	}
	if hasBytes(v) {
		return nil, errors.New("JSON has no form for bytes: make a text of them")
	}
	return json.Marshal(v)
}

// text is a value as a text.
func text(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case []byte:
		return strings.ToValidUTF8(string(v), "\uFFFD"), nil
	}
	b, err := encode(v)
	return string(b), err
}

// compare orders numbers, texts, bytes, and lists by their values. Others are only equal or not: see equal.
func compare(a, b any) (int, error) {
	switch a := a.(type) {
	case float64:
		if b, ok := b.(float64); ok {
			return cmp.Compare(a, b), nil
		}
	case string:
		if b, ok := b.(string); ok {
			return strings.Compare(a, b), nil
		}
	case []byte:
		if b, ok := b.([]byte); ok {
			return slices.Compare(a, b), nil
		}
	case []any:
		b, ok := b.([]any)
		if !ok {
			break
		}
		for i := range min(len(a), len(b)) {
			if order, err := compare(a[i], b[i]); order != 0 || err != nil {
				return order, err
			}
		}
		return cmp.Compare(len(a), len(b)), nil
	}
	return 0, fmt.Errorf("a %s and a %s have no order", kind(a), kind(b))
}

// equal reports whether two values are the same, of lists and maps all that is in them.
func equal(a, b any) bool {
	switch a := a.(type) {
	case []byte:
		b, ok := b.([]byte)
		return ok && slices.Equal(a, b)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equal)
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, part := range a {
			if other, there := b[name]; !there || !equal(part, other) {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case []byte, []any, map[string]any:
		return false // Go cannot compare those by ==
	}
	return a == b
}
