package starlark

import (
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"time"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"github.com/picloud/picloud/sdk/picloud"
)

func object(d starlark.StringDict) starlark.Value {
	return starlarkstruct.FromStringDict(starlarkstruct.Default, d)
}

// newContext is what handle is called with.
func newContext(r *run) starlark.Value {
	c := r.picloud
	ctx := starlark.StringDict{
		"execution_id": starlark.String(c.ExecutionID), "attempt": starlark.MakeInt(c.Attempt),
		"sdk_version": starlark.String(c.SDKVersion), "event": newEvent(&c.Event), "request": newRequest(&c.Request),
		"batch": newBatch(c.Batch()), "log": newLog(c.Log), "sleep": builtin("sleep", r.sleep),
		"retry":  starlark.NewBuiltin("retry", r.retry),
		"invoke": builtin("invoke", r.invoke), "queue": builtin("queue", r.queue),
	}
	r.addServices(ctx)
	return object(ctx)
}

func newEvent(e *picloud.Event) starlark.Value {
	return object(starlark.StringDict{
		"id": starlark.String(e.ID), "source": starlark.String(e.Source), "type": starlark.String(e.Type),
		"subject": starlark.String(e.Subject), "time": starlark.String(e.Time.UTC().Format(time.RFC3339Nano)),
		"content_type": starlark.String(e.ContentType),
	})
}

func newRequest(q *picloud.Request) starlark.Value {
	params := &starlark.Dict{}
	for name, value := range q.Params {
		_ = params.SetKey(starlark.String(name), starlark.String(value)) // texts can be keys
	}
	first := func(find func(string) string) *starlark.Builtin {
		return builtin("value", func(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			var name string
			err := starlark.UnpackArgs(b.Name(), args, kwargs, "name", &name)
			return starlark.String(find(name)), err
		})
	}
	d := body(q.Body)
	for name, value := range map[string]starlark.Value{
		"method": starlark.String(q.Method), "host": starlark.String(q.Host), "path": starlark.String(q.Path),
		"rest": starlark.String(q.Rest), "headers": lists(q.Headers), "query": lists(q.Query), "params": params,
		"header": first(func(name string) string { return q.Headers.Get(textproto.CanonicalMIMEHeaderKey(name)) }), "param": first(q.Param),
		"query_value": first(q.Query.Get),
	} {
		d[name] = value
	}
	return object(d)
}

// body is what an event's data can be read as.
func body(b []byte) starlark.StringDict {
	return starlark.StringDict{
		"body": starlark.Bytes(b),
		"text": builtin("text", func(f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			return starlark.String(b), starlark.UnpackArgs(f.Name(), args, kwargs)
		}),
		"json": starlark.NewBuiltin("json", func(t *starlark.Thread, f *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			if err := starlark.UnpackArgs(f.Name(), args, kwargs); err != nil {
				return nil, err
			}
			v, err := starlark.Call(t, jsonModule.Members["decode"], starlark.Tuple{starlark.String(b)}, nil)
			if err != nil {
				return nil, fmt.Errorf("the body is not the JSON that is expected: %w", err)
			}
			return v, nil
		}),
	}
}

func lists(m map[string][]string) *starlark.Dict {
	d := starlark.NewDict(len(m))
	for name, values := range m {
		list := make([]starlark.Value, len(values))
		for i, v := range values {
			list[i] = starlark.String(v)
		}
		_ = d.SetKey(starlark.String(name), starlark.NewList(list)) // texts can be keys
	}
	return d
}

func newBatch(messages []picloud.Message) starlark.Value {
	if messages == nil {
		return starlark.None
	}
	list := make([]starlark.Value, len(messages))
	for i := range messages {
		m := &messages[i]
		d := body(m.Body)
		d["id"], d["attempt"], d["event"] = starlark.String(m.ID), starlark.MakeInt(m.Attempt), newEvent(&m.Event)
		list[i] = object(d)
	}
	return starlark.NewList(list)
}

func newLog(l *picloud.Logger) starlark.Value {
	d := starlark.StringDict{}
	for name, write := range map[string]func(string, ...any){
		"trace": l.Trace, "debug": l.Debug, "info": l.Info, "warn": l.Warn, "error": l.Error,
	} {
		d[name] = builtin(name, func(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			if len(args) == 0 || len(kwargs) > 0 {
				return nil, fmt.Errorf("%s takes a message and what belongs to it", b.Name())
			}
			message, ok := starlark.AsString(args[0])
			if !ok {
				message = args[0].String()
			}
			data := make([]any, len(args)-1)
			for i := range data {
				data[i] = args[i+1]
			}
			write(message, data...)
			return starlark.None, nil
		})
	}
	return object(d)
}

func (r *run) sleep(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var d seconds
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "seconds", &d); err != nil {
		return nil, err
	}
	return starlark.None, r.wait(time.Duration(d))
}

func (r *run) invoke(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name string
	var data starlark.Value = starlark.None
	d, err := unpack(b, args, kwargs, "script", &name, "data?", &data)
	if err != nil {
		return nil, err
	}
	id, err := r.picloud.Invoke(name, sent(data), d)
	return starlark.String(id), err
}

func (r *run) queue(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name string
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "name", &name); err != nil {
		return nil, err
	}
	q := r.picloud.Queue(name)
	d := r.methods(queues, name)
	maps.Copy(d, starlark.StringDict{
		"send": builtin("send", func(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			var data starlark.Value = starlark.None
			d, err := unpack(b, args, kwargs, "data", &data)
			if err != nil {
				return nil, err
			}
			id, err := q.Send(sent(data), d)
			return starlark.String(id), err
		}),
		"send_all": builtin("send_all", func(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
			var messages *starlark.List
			d, err := unpack(b, args, kwargs, "messages", &messages)
			if err != nil {
				return nil, err
			}
			list := make([]any, messages.Len())
			for i := range list {
				list[i] = sent(messages.Index(i))
			}
			ids, err := q.SendAll(list, d)
			if err != nil {
				return nil, err
			}
			out := make([]starlark.Value, len(ids))
			for i, id := range ids {
				out[i] = starlark.String(id)
			}
			return starlark.NewList(out), nil
		}),
	})
	return object(d), nil
}

// unpack reads the arguments of a call that sends, and how what is sent is to be delivered.
func unpack(b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple, pairs ...any) (*picloud.Delivery, error) {
	var d picloud.Delivery
	var delay, expires seconds
	var at string
	err := starlark.UnpackArgs(b.Name(), args, kwargs, append(pairs,
		"delay?", &delay, "run_at?", &at, "expires_in?", &expires, "priority?", &d.Priority, "max_attempts?", &d.MaxAttempts,
		"ordering_key?", &d.OrderingKey, "concurrency_key?", &d.ConcurrencyKey, "rate_key?", &d.RateKey,
		"debounce_key?", &d.DebounceKey, "idempotency_key?", &d.IdempotencyKey)...)
	if err != nil {
		return nil, err
	}
	d.Delay, d.ExpiresIn = time.Duration(delay), time.Duration(expires)
	if at != "" {
		if d.RunAt, err = time.Parse(time.RFC3339, at); err != nil {
			return nil, errors.New("run_at must be a time such as 2026-01-02T15:04:05Z")
		}
	}
	return &d, nil
}

// sent is a value in the form that picloud sends.
func sent(v starlark.Value) any {
	switch v := v.(type) {
	case starlark.NoneType:
		return nil
	case starlark.String:
		return string(v)
	case starlark.Bytes:
		return []byte(v)
	}
	return v
}
