package starlark

import (
	"errors"
	"fmt"

	starlarkjson "go.starlark.net/lib/json"
	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"github.com/picloud/picloud/sdk/script"
)

const (
	// maxDepth is how deep values may be nested that are read or written: both call themselves, and a stack that is used up
	// ends the process. A body of some MB that is nothing but brackets would do.
	maxDepth = 1000
	// maxText is how large the JSON of a value may be, in bytes: the largest answer there is.
	maxText = 64 << 20
)

// jsonModule is the language's, for values that do not end the process.
var jsonModule = &starlarkstruct.Module{Name: "json", Members: starlark.StringDict{
	"encode": bounded("encode"), "encode_indent": bounded("encode_indent"), "decode": starlark.NewBuiltin("json.decode", decode),
	"indent": starlarkjson.Module.Members["indent"],
}}

// bounded is a function of the language's module that writes a value.
func bounded(name string) *starlark.Builtin {
	return starlark.NewBuiltin("json."+name, func(t *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		for _, v := range args {
			if err := writable(v); err != nil {
				return nil, fmt.Errorf("%s: %w", b.Name(), err)
			}
		}
		return starlark.Call(t, starlarkjson.Module.Members[name], args, kwargs)
	})
}

func decode(t *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var text string
	var otherwise starlark.Value
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "x", &text, "default?", &otherwise); err != nil {
		return nil, err
	}
	switch {
	case !script.Nested(text, maxDepth):
		return starlark.Call(t, starlarkjson.Module.Members["decode"], args, kwargs)
	case otherwise != nil:
		return otherwise, nil
	}
	return nil, fmt.Errorf("%s: the value is nested more than %d deep", b.Name(), maxDepth)
}

// writable says what is in the way of writing a value as JSON. A value that holds one thing twice, which does so, too, is small
// in memory and without end as a text.
func writable(v starlark.Value) error {
	left := maxText
	return look(v, maxDepth, &left)
}

// look is writable for a value that may be nested as deep as depth. It takes from left what the JSON has at least, in bytes, and ends where
// nothing is left.
func look(v starlark.Value, depth int, left *int) error {
	if *left -= 2; *left < 0 { // itself, and what parts it from the next
		return fmt.Errorf("the value takes more than %d MB as JSON", maxText>>20)
	}
	if depth == 0 {
		return fmt.Errorf("the value is nested more than %d deep, or holds itself", maxDepth)
	}
	switch v := v.(type) {
	case starlark.String:
		*left -= len(v)
	case starlark.Int, starlark.Bool, starlark.Float, starlark.NoneType:
	case starlark.Bytes:
		return errors.New("bytes have no form in JSON, base64.encode makes text of them")
	case starlark.IterableMapping:
		for _, item := range v.Items() {
			if err := look(item[1], depth-1, left); err != nil {
				return err
			}
		}
	case starlark.Indexable:
		for i := range v.Len() {
			if err := look(v.Index(i), depth-1, left); err != nil {
				return err
			}
		}
	case *starlarkstruct.Struct:
		for _, name := range v.AttrNames() {
			part, err := v.Attr(name)
			if err == nil {
				err = look(part, depth-1, left)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
