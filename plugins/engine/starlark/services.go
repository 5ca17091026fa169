package starlark

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.starlark.net/starlark"

	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/service"
)

// addServices gives the context of a run what sdk/service lists.
func (r *run) addServices(ctx starlark.StringDict) {
	for i := range services {
		s := &services[i]
		if s.Sends {
			continue
		}
		if s.Plain {
			for j := range s.Methods {
				ctx[s.Methods[j].Name] = r.method(s, &s.Methods[j], "")
			}
			continue
		}
		if s.Handle == "" {
			ctx[s.Name] = r.opened(s, "")
			continue
		}
		ctx[s.Name] = builtin(s.Name, func(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			var name string
			err := starlark.UnpackArgs(b.Name(), args, kwargs, s.Handle, &name)
			return r.opened(s, name), err
		})
	}
}

var services = service.Services()

// queues is the service that the context opens by itself.
var queues = func() *service.Service {
	i := slices.IndexFunc(services, func(s service.Service) bool { return s.Name == "queue" })
	return &services[i]
}()

// opened is a service with the methods that it has.
func (r *run) opened(s *service.Service, handle string) starlark.Value {
	return object(r.methods(s, handle))
}

func (r *run) methods(s *service.Service, handle string) starlark.StringDict {
	d := make(starlark.StringDict, len(s.Methods))
	for i := range s.Methods {
		d[s.Methods[i].Name] = r.method(s, &s.Methods[i], handle)
	}
	return d
}

func (r *run) method(s *service.Service, m *service.Method, handle string) starlark.Value {
	return starlark.NewBuiltin(m.Name, func(t *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		return r.ask(t, s, m, handle, args, kwargs)
	})
}

// ask makes a call of a service.
func (r *run) ask(
	t *starlark.Thread, s *service.Service, m *service.Method, handle string, args starlark.Tuple, kwargs []starlark.Tuple,
) (starlark.Value, error) {
	values := make([]starlark.Value, len(m.Params))
	pairs := make([]any, 0, 2*len(m.Params))
	for i := range m.Params {
		name := m.Params[i].Seconds()
		if m.Params[i].Option {
			name += "?"
		}
		pairs = append(pairs, name, &values[i])
	}
	if err := starlark.UnpackArgs(m.Name, args, kwargs, pairs...); err != nil {
		return nil, err
	}
	fields := starlark.NewDict(len(m.Params) + 1)
	if s.Handle != "" {
		_ = fields.SetKey(starlark.String(s.Handle), starlark.String(handle)) // texts can be keys
	}
	for i := range m.Params {
		p := &m.Params[i]
		if values[i] == nil || p.Option && values[i] == starlark.None {
			continue
		}
		field := p.Field
		if _, binary := values[i].(starlark.Bytes); binary && (p.Kind == service.Data || p.Kind == service.Body) {
			field += "_base64"
		}
		v, err := argument(p, values[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", m.Name, p.Seconds(), err)
		}
		_ = fields.SetKey(starlark.String(field), v)
	}
	text, err := r.encode(fields)
	if err != nil {
		return nil, fmt.Errorf("%s: the value cannot be sent: %w", m.Name, err)
	}
	answer, err := picloud.Ask(r, s.Name, m.Wire(), text)
	if err != nil {
		return nil, err
	}
	return result(t, m, answer)
}

// result is what a method returns of an answer.
func result(t *starlark.Thread, m *service.Method, answer []byte) (starlark.Value, error) {
	v, err := starlark.Call(t, jsonModule.Members["decode"], starlark.Tuple{starlark.String(answer)}, nil)
	if err != nil {
		return nil, errors.New("the platform's answer cannot be read")
	}
	d, ok := v.(*starlark.Dict)
	if !ok {
		return v, nil
	}
	for _, name := range []string{"data", "body"} {
		text, found, _ := d.Get(starlark.String(name + "_base64"))
		if !found {
			continue
		}
		s, _ := starlark.AsString(text)
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return nil, errors.New("the platform's answer cannot be read")
		}
		_, _, _ = d.Delete(starlark.String(name + "_base64")) // it is there
		_ = d.SetKey(starlark.String(name), starlark.Bytes(b))
	}
	if m.Result == "" {
		return v, nil
	}
	field, found, err := d.Get(starlark.String(strings.TrimSuffix(m.Result, "_base64")))
	if !found {
		return starlark.None, err
	}
	return field, err
}

// argument is a value in the form that its field travels in.
func argument(p *service.Param, v starlark.Value) (starlark.Value, error) {
	ok := true
	switch p.Kind {
	case service.Text, service.Time:
		var text starlark.String
		text, ok = v.(starlark.String)
		// JSON writes what is no Unicode as U+FFFD: two keys would be one.
		if known := strings.HasSuffix(p.Field, "key") || p.Field == "prefix"; known && !utf8.ValidString(string(text)) {
			return nil, errors.New("it is not UTF-8: write bytes as text, such as in hexadecimal")
		}
	case service.Number:
		_, ok = v.(starlark.Int)
	case service.Texts:
		_, ok = v.(starlark.Iterable)
	case service.Data, service.Body:
		if b, binary := v.(starlark.Bytes); binary {
			return starlark.String(base64.StdEncoding.EncodeToString([]byte(b))), nil
		}
		_, ok = v.(starlark.String)
		ok = ok || p.Kind == service.Body
	case service.Duration:
		var d seconds
		if err := d.Unpack(v); err != nil {
			return nil, err
		}
		return starlark.MakeInt64(int64(math.Ceil(float64(d) / float64(time.Millisecond)))), nil
	}
	if !ok {
		return nil, fmt.Errorf("%s is not what it takes", v.Type())
	}
	return v, nil
}
