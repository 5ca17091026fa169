package yaegi

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
)

// marshal writes a script's value as JSON. The error says which part of it has no form there.
func marshal(value any) ([]byte, error) {
	b, err := json.Marshal(plain(value))
	if err == nil {
		return b, nil
	}
	budget := 10_000
	if path, what := unsendable(reflect.ValueOf(plain(value)), &budget); what != "" {
		if path != "" {
			what += " at " + path
		}
		return nil, fmt.Errorf("JSON has no form for %s", what)
	}
	return nil, err
}

// unsendable finds the first part of a value that JSON has no form for: where it is, in the form of a Go expression, and
// what. Both are empty if there is none among the first that it looks at: a value may be large, or hold itself. budget is
// how many.
func unsendable(v reflect.Value, budget *int) (path, what string) {
	if *budget--; *budget < 0 {
		return "", ""
	}
	switch v.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return "", "a " + v.Type().String()
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return "", fmt.Sprint("the number ", f)
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return unsendable(v.Elem(), budget)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if path, what := unsendable(v.Index(i), budget); what != "" {
				return fmt.Sprintf("[%d]%s", i, path), what
			}
		}
	case reflect.Map:
		for k, e := range v.Seq2() {
			if path, what := unsendable(e, budget); what != "" {
				return fmt.Sprintf("[%q]%s", fmt.Sprint(k), path), what
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || f.Tag.Get("json") == "-" {
				continue
			}
			if path, what := unsendable(v.Field(i), budget); what != "" {
				return "." + f.Name + path, what
			}
		}
	}
	return "", ""
}
