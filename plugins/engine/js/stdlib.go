package js

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/picloud/picloud/sdk/service"
	"github.com/picloud/picloud/sdk/stdlib"
)

// The table of sdk/stdlib as the prelude reads it.
type (
	tableFunction struct {
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

	// libraries are the modules of the table as the prelude reads them, made once.
	libraries = sync.OnceValue(func() map[string]string {
		modules := map[string][]tableFunction{}
		for i, f := range functions {
			if f.TS == "" {
				continue
			}
			t := tableFunction{Name: service.Camel(f.Name), Index: i, Params: []tableParam{}}
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
			modules[f.Module] = append(modules[f.Module], t)
		}
		texts := map[string]string{}
		for name, list := range modules {
			b, _ := json.Marshal(list) // texts always encode
			texts[name] = string(b)
		}
		return texts
	})

	// exports has scripts import the modules. One that a script does not name is left out of its bundle.
	exports = sync.OnceValue(func() string {
		var out strings.Builder
		for _, name := range slices.Sorted(maps.Keys(libraries())) {
			fmt.Fprintf(&out, "\nexport const %s = /* @__PURE__ */ $picloud.library(%q);", name, name)
		}
		return out.String()
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
	v, err := f.Call(func() bool { return false }, args)
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
		return rows(text)
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

// rows is a list of lists of texts; nil if there is anything else, such as null in place of a text.
func rows(text json.RawMessage) any {
	list, ok := read[[][]*string](text).([][]*string)
	if !ok {
		return nil
	}
	out := make([][]string, len(list))
	for i, row := range list {
		if row == nil {
			return nil
		}
		out[i] = make([]string, len(row))
		for j, cell := range row {
			if cell == nil {
				return nil
			}
			out[i][j] = *cell
		}
	}
	return out
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
