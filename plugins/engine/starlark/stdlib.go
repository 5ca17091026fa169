package starlark

import (
	"fmt"
	"maps"
	"slices"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"github.com/picloud/picloud/sdk/stdlib"
)

// library is sdk/stdlib, module by module.
func library() starlark.StringDict {
	modules := starlark.StringDict{}
	functions := stdlib.Functions()
	for i := range functions {
		f := &functions[i]
		if f.Starlark != "" {
			continue
		}
		m, ok := modules[f.Module].(*starlarkstruct.Module)
		if !ok {
			m = &starlarkstruct.Module{Name: f.Module, Members: starlark.StringDict{}}
			modules[f.Module] = m
		}
		m.Members[f.Name] = starlark.NewBuiltin(f.Title(), func(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			r, _ := t.Local(runKey).(*run) // every thread has one
			return r.compute(f, args, kwargs)
		})
	}
	// hash is a function of the language, too.
	modules["hash"] = both{modules["hash"].(*starlarkstruct.Module), starlark.Universe["hash"].(*starlark.Builtin)}
	return modules
}

// both is a module that can be called.
type both struct {
	*starlarkstruct.Module
	f *starlark.Builtin
}

// Name is part of starlark.Callable.
func (b both) Name() string { return b.f.Name() }

// CallInternal is part of starlark.Callable.
func (b both) CallInternal(t *starlark.Thread, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	return b.f.CallInternal(t, args, kwargs)
}

// compute calls a function of the table.
func (r *run) compute(f *stdlib.Function, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	given := make([]starlark.Value, len(f.Params))
	pairs := make([]any, 0, 2*len(f.Params))
	for i, p := range f.Params {
		name := p.Name
		if p.Default != nil {
			name += "?"
		}
		pairs = append(pairs, name, &given[i])
	}
	if err := starlark.UnpackArgs(f.Title(), args, kwargs, pairs...); err != nil {
		return nil, err
	}
	list := make([]any, len(given))
	left := stdlib.MaxInput
	for i, p := range f.Params {
		if given[i] == nil {
			continue
		}
		if list[i] = taken(p.Kind, given[i], &left); left < 0 {
			return nil, fmt.Errorf("%s takes up to %d MiB", f.Title(), stdlib.MaxInput>>20)
		}
		if list[i] == nil {
			list[i] = given[i] // is no argument of this kind, which Call says
		}
	}
	v, err := f.Call(func() bool { return r.ctx.Err() != nil || r.ended() }, list)
	if err != nil {
		return nil, err
	}
	return made(v), nil
}

// taken is an argument in the form of its kind, nil if it is none. It takes from left what the parts of lists hold, which may be
// one text many times, and ends where nothing is left.
func taken(k stdlib.Kind, v starlark.Value, left *int) any {
	switch k {
	case stdlib.Text:
		if s, ok := starlark.AsString(v); ok {
			return s
		}
	case stdlib.Data:
		switch v := v.(type) {
		case starlark.String:
			return []byte(v)
		case starlark.Bytes:
			return []byte(v)
		}
	case stdlib.Number:
		if i, ok := v.(starlark.Int); ok {
			if n, ok := i.Int64(); ok {
				return n
			}
		}
	case stdlib.Bool:
		if b, ok := v.(starlark.Bool); ok {
			return bool(b)
		}
	case stdlib.Rows:
		return rows(v, left)
	case stdlib.Fields:
		return fields(v, left)
	}
	return nil
}

func rows(v starlark.Value, left *int) any {
	list, ok := v.(starlark.Iterable)
	if !ok {
		return nil
	}
	out := [][]string{}
	for row := range starlark.Elements(list) {
		cells, ok := texts(row, left)
		if !ok || *left < 0 {
			return nil
		}
		out = append(out, cells)
	}
	return out
}

func fields(v starlark.Value, left *int) any {
	d, ok := v.(starlark.IterableMapping)
	if !ok {
		return nil
	}
	out := map[string][]string{}
	for name, value := range starlark.Entries(d) {
		key, isText := starlark.AsString(name)
		var values []string
		if one, single := starlark.AsString(value); single {
			values, ok = []string{one}, true
			*left -= len(one)
		} else {
			values, ok = texts(value, left)
		}
		if *left -= len(key); !ok || !isText || *left < 0 {
			return nil
		}
		out[key] = values
	}
	return out
}

// texts is a list of them.
func texts(v starlark.Value, left *int) ([]string, bool) {
	list, ok := v.(starlark.Iterable)
	if !ok {
		return nil, false
	}
	const each = 8
	out := []string{}
	for item := range starlark.Elements(list) {
		text, ok := starlark.AsString(item)
		if *left -= each + len(text); !ok || *left < 0 {
			return nil, false
		}
		out = append(out, text)
	}
	*left -= each
	return out, true
}

// made is a result as scripts see it.
func made(v any) starlark.Value {
	switch v := v.(type) {
	case string:
		return starlark.String(v)
	case []byte:
		return starlark.Bytes(v)
	case int64:
		return starlark.MakeInt64(v)
	case float64:
		return starlark.Float(v)
	case bool:
		return starlark.Bool(v)
	case [][]string:
		list := make([]starlark.Value, len(v))
		for i, row := range v {
			list[i] = listOf(row)
		}
		return starlark.NewList(list)
	case map[string][]string:
		d := starlark.NewDict(len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			_ = d.SetKey(starlark.String(name), listOf(v[name])) // texts can be keys
		}
		return d
	case map[string]any:
		if v == nil {
			return starlark.None
		}
		d := starlark.NewDict(len(v))
		for _, name := range slices.Sorted(maps.Keys(v)) {
			_ = d.SetKey(starlark.String(name), made(v[name])) // texts can be keys
		}
		return d
	case []any:
		list := make([]starlark.Value, len(v))
		for i, value := range v {
			list[i] = made(value)
		}
		return starlark.NewList(list)
	}
	return starlark.None
}

func listOf(texts []string) *starlark.List {
	list := make([]starlark.Value, len(texts))
	for i, text := range texts {
		list[i] = starlark.String(text)
	}
	return starlark.NewList(list)
}
