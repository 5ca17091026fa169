package starlark

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	starlarkjson "go.starlark.net/lib/json"
	"go.starlark.net/lib/math"
	startime "go.starlark.net/lib/time"
	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

// predeclared is what every script finds.
var predeclared = func() starlark.StringDict {
	d := starlark.StringDict{
		"json": jsonModule, "math": math.Module, "time": startime.Module, "struct": starlark.NewBuiltin("struct", starlarkstruct.Make),
		"response": builtin("response", response), "batch_result": builtin("batch_result", batchResult),
		"failure": builtin("failure", failure), "retry_after": builtin("retry_after", retryAfter), "fatal": builtin("fatal", fatal),
	}
	maps.Copy(d, library())
	d.Freeze()
	return d
}()

// builtin is a function of the platform that needs no run.
func builtin(name string, f func(*starlark.Builtin, starlark.Tuple, []starlark.Tuple) (starlark.Value, error)) *starlark.Builtin {
	return starlark.NewBuiltin(name, func(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		return f(b, args, kwargs)
	})
}

// reply is what response makes.
type reply struct {
	status  int
	headers *starlark.Dict
	body    starlark.Value
}

func (r *reply) String() string        { return fmt.Sprintf("response(status=%d)", r.status) }
func (r *reply) Type() string          { return "response" }
func (r *reply) Freeze()               { r.headers.Freeze(); r.body.Freeze() }
func (r *reply) Truth() starlark.Bool  { return true }
func (r *reply) Hash() (uint32, error) { return 0, errors.New("a response cannot be a key") }

func response(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	r := &reply{status: http.StatusOK, headers: &starlark.Dict{}, body: starlark.None}
	return r, starlark.UnpackArgs(b.Name(), args, kwargs, "status?", &r.status, "headers?", &r.headers, "body?", &r.body)
}

// results is what batch_result makes.
type results struct {
	*starlark.List
}

func (r results) Type() string { return "batch_result" }

func batchResult(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	r := results{}
	return r, starlark.UnpackArgs(b.Name(), args, kwargs, "failures", &r.List)
}

// failed is what failure makes.
type failed struct{ picloud.Failure }

func (f failed) String() string        { return fmt.Sprintf("failure(id=%q)", f.ID) }
func (f failed) Type() string          { return "failure" }
func (f failed) Freeze()               {}
func (f failed) Truth() starlark.Bool  { return true }
func (f failed) Hash() (uint32, error) { return 0, errors.New("a failure cannot be a key") }

func failure(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var f failed
	var after seconds
	err := starlark.UnpackArgs(b.Name(), args, kwargs, "id", &f.ID, "error?", &f.Error, "retry_after?", &after, "fatal?", &f.Fatal)
	f.RetryAfter = time.Duration(after)
	return f, err
}

func retryAfter(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var message string
	var after seconds
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "error", &message, "seconds", &after); err != nil {
		return nil, err
	}
	return nil, picloud.RetryAfter(errors.New(message), time.Duration(after))
}

func fatal(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var message string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "error", &message); err != nil {
		return nil, err
	}
	return nil, picloud.Fatal(errors.New(message))
}

// seconds is a duration that a script gives as a number of seconds, or as one of time.
type seconds time.Duration

// Unpack is part of starlark.Unpacker.
func (s *seconds) Unpack(v starlark.Value) error {
	f, ok := starlark.AsFloat(v)
	if d, isDuration := v.(startime.Duration); isDuration {
		f, ok = time.Duration(d).Seconds(), true
	}
	if !ok || !(f >= 0 && f <= 10*366*24*3600) { // no more than a value may live; and not NaN
		return fmt.Errorf("got %s, want a number of seconds from 0 on, at most ten years", v)
	}
	*s = seconds(f * float64(time.Second))
	return nil
}

// result is what handle returned, in the form of script.NewAnswer.
func (r *run) result(v starlark.Value) (any, error) {
	switch v := v.(type) {
	case starlark.NoneType:
		return nil, nil
	case *reply:
		return r.response(v)
	case results:
		out := picloud.BatchResult{}
		for i := range v.Len() {
			f, ok := v.Index(i).(failed)
			if !ok {
				return nil, fault.New(fault.InvalidResponse, fault.Script, "batch_result takes a list of failure(…), not of %s", v.Index(i).Type())
			}
			out.Failures = append(out.Failures, f.Failure)
		}
		return out, nil
	}
	return r.encoded(v)
}

func (r *run) response(v *reply) (any, error) {
	out := picloud.Response{Status: v.status, Headers: picloud.Headers{}}
	for _, item := range v.headers.Items() {
		name, ok := starlark.AsString(item[0])
		values := []starlark.Value{item[1]}
		if list, isList := item[1].(*starlark.List); isList {
			values = values[:0]
			for i := range list.Len() {
				values = append(values, list.Index(i))
			}
		}
		for _, v := range values {
			text, isText := starlark.AsString(v)
			if !ok || !isText {
				return nil, fault.New(fault.InvalidResponse, fault.Script, "headers are texts, or lists of them: %s is %s", item[0], v)
			}
			out.Headers.Add(name, text)
		}
	}
	switch b := v.body.(type) {
	case starlark.NoneType:
	case starlark.String:
		out.Body = string(b)
	case starlark.Bytes:
		out.Body = []byte(b)
	default:
		encoded, err := r.encoded(b)
		if err != nil {
			return nil, err
		}
		out.Body = encoded
	}
	return out, nil
}

// encoded writes a value that is to be sent as JSON.
func (r *run) encoded(v starlark.Value) (json.RawMessage, error) {
	b, err := r.encode(v)
	if err != nil && r.ctx.Err() == nil {
		return nil, fault.New(fault.InvalidResponse, fault.Script, "what the script returned cannot be sent: %v", err)
	}
	return b, err
}

// encode writes a value as JSON.
func (r *run) encode(v starlark.Value) (json.RawMessage, error) {
	if err := writable(v); err != nil {
		return nil, err
	}
	text, err := starlark.Call(r.thread, starlarkjson.Module.Members["encode"], starlark.Tuple{v}, nil)
	if err != nil {
		return nil, err
	}
	s, _ := starlark.AsString(text) // it returns nothing else
	return json.RawMessage(s), nil
}
