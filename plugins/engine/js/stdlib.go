package js

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/picloud/picloud/sdk/service"
	"github.com/picloud/picloud/sdk/stdlib"
)

// The table of sdk/stdlib as the prelude reads it.
type (
	tableFunction struct {
		Module string       `json:"module"`
		Name   string       `json:"name"`
		Index  int          `json:"index"`
		Result string       `json:"result,omitempty"`
		Params []tableParam `json:"params"`
	}
)

// What JSON has no form for, and the prelude therefore makes.
const (
	asBytes = "bytes"
	asTime  = "time"
)

var (
	functions = stdlib.Functions()

	// functionTable is the table, made once.
	functionTable = sync.OnceValue(func() string {
		var table []tableFunction
		for i, f := range functions {
			if f.TS == "" {
				continue
			}
			t := tableFunction{Module: f.Module, Name: service.Camel(f.Name), Index: i, Params: []tableParam{}}
			switch f.Result {
			case stdlib.Data:
				t.Result = asBytes
			case stdlib.Time:
				t.Result = asTime
			}
			for _, p := range f.Params {
				kind := ""
				if p.Kind == stdlib.Data {
					kind = asBytes
				}
				t.Params = append(t.Params, tableParam{Name: service.Camel(p.Name), Kind: kind, Option: p.Default != nil})
			}
			table = append(table, t)
		}
		b, _ := json.Marshal(table) // texts always encode
		return string(b)
	})
)

// compute calls a function of the table with a list of arguments.
func compute(index int, list string) (string, error) {
	if index < 0 || index >= len(functions) {
		return "", errors.New("the platform has no such function")
	}
	f := &functions[index]
	var given []json.RawMessage
	if err := json.Unmarshal([]byte(list), &given); err != nil || len(given) != len(f.Params) {
		return "", fmt.Errorf("%s takes %d arguments", f.Title(), len(f.Params))
	}
	args := make([]any, len(given))
	for i, p := range f.Params {
		args[i] = argument(p.Kind, given[i])
	}
	v, err := f.Call(args)
	if err != nil {
		return "", err
	}
	if t, ok := v.(time.Time); ok {
		v = t.UnixMilli()
	}
	b, err := json.Marshal(v) // bytes as base64
	return string(b), err
}

// argument reads an argument, nil if it is none of its kind.
func argument(k stdlib.Kind, text json.RawMessage) any {
	switch k {
	case stdlib.Text:
		return read[string](text)
	case stdlib.Data:
		if s, ok := read[string](text).(string); ok {
			return []byte(s)
		}
		if parts, ok := read[[]string](text).([]string); ok && len(parts) == 1 {
			if b, err := base64.StdEncoding.DecodeString(parts[0]); err == nil {
				return b
			}
		}
	case stdlib.Number:
		return read[int64](text)
	case stdlib.Bool:
		return read[bool](text)
	case stdlib.Rows:
		return read[[][]string](text)
	case stdlib.Time:
		return read[time.Time](text)
	case stdlib.Fields:
		values, ok := read[map[string]any](text).(map[string]any)
		if !ok {
			return nil
		}
		return fields(values)
	}
	return nil
}

func read[T any](text json.RawMessage) any {
	var v *T
	if json.Unmarshal(text, &v) != nil || v == nil {
		return nil
	}
	return *v
}

// fields are texts, or lists of them, by their names; nil if there is anything else.
func fields(values map[string]any) any {
	out := map[string][]string{}
	for name, value := range values {
		list, isList := value.([]any)
		if !isList {
			list = []any{value}
		}
		out[name] = make([]string, len(list))
		for i, v := range list {
			text, ok := v.(string)
			if !ok {
				return nil
			}
			out[name][i] = text
		}
	}
	return out
}
