package main

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

// platform are the words for what a script sees.
var platform = map[string]func(*machine) error{
	"execution-id": seen(func(c *picloud.Context) any { return c.ExecutionID }),
	"attempt":      seen(func(c *picloud.Context) any { return float64(c.Attempt) }),
	"sdk-version":  seen(func(c *picloud.Context) any { return c.SDKVersion }),
	"event":        seen(func(c *picloud.Context) any { return envelope(&c.Event) }),
	"method":       seen(func(c *picloud.Context) any { return c.Request.Method }),
	"host":         seen(func(c *picloud.Context) any { return c.Request.Host }),
	"path":         seen(func(c *picloud.Context) any { return c.Request.Path }),
	"rest":         seen(func(c *picloud.Context) any { return c.Request.Rest }),
	"headers":      seen(func(c *picloud.Context) any { return several(c.Request.Headers) }),
	"query":        seen(func(c *picloud.Context) any { return several(c.Request.Query) }),
	"body":         seen(func(c *picloud.Context) any { return c.Request.Body }),
	"batch":        seen(batch),
	"params": seen(func(c *picloud.Context) any {
		table := map[string]any{}
		for name, v := range c.Request.Params {
			table[name] = v
		}
		return table
	}),

	"param":       named(func(c *picloud.Context, name string) any { return c.Request.Param(name) }),
	"header":      named(func(c *picloud.Context, name string) any { return c.Request.Header(name) }),
	"query-value": named(func(c *picloud.Context, name string) any { return c.Request.Query.Get(name) }),

	"body-json": func(m *machine) error {
		var v any
		if err := m.ctx.Request.JSON(&v); err != nil {
			return err
		}
		return m.push(v)
	},
	"sleep": func(m *machine) error {
		seconds, err := take[float64](m)
		if err != nil {
			return err
		}
		m.run.waits.Store(true)
		defer m.run.waits.Store(false)
		return m.ctx.Sleep(duration(seconds))
	},

	"trace": logs((*picloud.Logger).Trace),
	"debug": logs((*picloud.Logger).Debug),
	"info":  logs((*picloud.Logger).Info),
	"warn":  logs((*picloud.Logger).Warn),
	"error": logs((*picloud.Logger).Error),
	"print": func(m *machine) error {
		v, err := m.pop()
		if err != nil {
			return err
		}
		line, err := text(v)
		if err == nil {
			m.ctx.Log.Info(line)
		}
		return err
	},

	"invoke": sends(func(c *picloud.Context, script string, data any, d *picloud.Delivery) (any, error) {
		return c.Invoke(script, data, d)
	}),
	"send": sends(func(c *picloud.Context, queue string, data any, d *picloud.Delivery) (any, error) {
		return c.Queue(queue).Send(data, d)
	}),
	"send-all": sends(func(c *picloud.Context, queue string, data any, d *picloud.Delivery) (any, error) {
		list, ok := data.([]any)
		if !ok {
			return nil, fmt.Errorf("send-all takes a list of messages, not a %s", kind(data))
		}
		ids, err := c.Queue(queue).SendAll(list, d)
		sent := []any{}
		for _, id := range ids {
			sent = append(sent, id)
		}
		return sent, err
	}),

	"respond":      respond,
	"batch-result": batchResult,

	"fail":  failing(func(err error) error { return err }),
	"fatal": failing(picloud.Fatal),
	"retry-after": func(m *machine) error {
		seconds, err := take[float64](m)
		if err != nil {
			return err
		}
		return failing(func(err error) error { return picloud.RetryAfter(err, duration(seconds)) })(m)
	},
}

func seen(f func(*picloud.Context) any) func(*machine) error {
	return func(m *machine) error { return m.push(f(m.ctx)) }
}

func named(f func(*picloud.Context, string) any) func(*machine) error {
	return func(m *machine) error {
		return one(func(name string) (any, error) { return f(m.ctx, name), nil })(m)
	}
}

func logs(f func(l *picloud.Logger, message string, data ...any)) func(*machine) error {
	return func(m *machine) error {
		data, err := take[[]any](m)
		if err != nil {
			return err
		}
		message, err := take[string](m)
		if err == nil {
			f(m.ctx.Log, message, data...)
		}
		return err
	}
}

func failing(f func(error) error) func(*machine) error {
	return func(m *machine) error {
		message, err := take[string](m)
		if err != nil {
			return err
		}
		return f(errors.New(message))
	}
}

func sends(f func(c *picloud.Context, to string, data any, d *picloud.Delivery) (any, error)) func(*machine) error {
	return func(m *machine) error {
		to, err := take[string](m)
		if err != nil {
			return err
		}
		return two(func(data any, options map[string]any) (any, error) {
			d, err := delivery(options)
			if err != nil {
				return nil, err
			}
			return f(m.ctx, to, data, d)
		})(m)
	}
}

// delivery reads what a map asks for.
func delivery(options map[string]any) (*picloud.Delivery, error) {
	d := &picloud.Delivery{}
	texts := map[string]*string{
		"ordering_key": &d.OrderingKey, "concurrency_key": &d.ConcurrencyKey, "rate_key": &d.RateKey,
		"debounce_key": &d.DebounceKey, "idempotency_key": &d.IdempotencyKey,
	}
	for name, v := range options {
		n, isNumber := v.(float64)
		s, isText := v.(string)
		var err error
		switch {
		case texts[name] != nil && isText:
			*texts[name] = s
		case name == "run_at" && isText:
			d.RunAt, err = time.Parse(time.RFC3339, s)
		case name == "delay" && isNumber:
			d.Delay = duration(n)
		case name == "expires_in" && isNumber:
			d.ExpiresIn = duration(n)
		case name == "priority" && isNumber:
			d.Priority = int(n)
		case name == "max_attempts" && isNumber:
			d.MaxAttempts = int(n)
		default:
			err = fmt.Errorf("a delivery has no %s that is a %s", name, kind(v))
		}
		if err != nil {
			return nil, err
		}
	}
	return d, nil
}

// duration makes seconds one, as long as there are.
func duration(seconds float64) time.Duration {
	return time.Duration(max(math.MinInt64/2, min(math.MaxInt64/2, seconds*float64(time.Second))))
}

func respond(m *machine) error {
	status, err := take[float64](m)
	if err != nil {
		return err
	}
	headers, err := take[map[string]any](m)
	if err != nil {
		return err
	}
	r := &picloud.Response{Status: int(status), Headers: picloud.Headers{}}
	if r.Body, err = m.pop(); err != nil {
		return err
	}
	for name, v := range headers {
		list, isList := v.([]any)
		if !isList {
			list = []any{v}
		}
		for _, v := range list {
			s, ok := v.(string)
			if !ok {
				return fmt.Errorf("the header %s is a text or a list of texts, not a %s", name, kind(v))
			}
			r.Headers[name] = append(r.Headers[name], s)
		}
	}
	m.answered = r
	return errAnswered
}

func batchResult(m *machine) error {
	list, err := take[[]any](m)
	if err != nil {
		return err
	}
	r := &picloud.BatchResult{}
	for _, v := range list {
		told, _ := v.(map[string]any)
		id, _ := told["id"].(string)
		if id == "" {
			return errors.New("a failure of a batch is a map with the id of its event")
		}
		f := picloud.Failure{ID: id}
		f.Error, _ = told["error"].(string)
		f.Fatal, _ = told["fatal"].(bool)
		seconds, _ := told["retry_after"].(float64)
		f.RetryAfter = duration(seconds)
		r.Failures = append(r.Failures, f)
	}
	m.answered = r
	return errAnswered
}

// several makes lists of values a map.
func several(all map[string][]string) any {
	table := map[string]any{}
	for name, values := range all {
		list := []any{}
		for _, v := range values {
			list = append(list, v)
		}
		table[name] = list
	}
	return table
}

func envelope(e *picloud.Event) map[string]any {
	at := ""
	if !e.Time.IsZero() {
		at = e.Time.Format(time.RFC3339Nano)
	}
	return map[string]any{
		"id": e.ID, "source": e.Source, "type": e.Type, "subject": e.Subject, "time": at, "content_type": e.ContentType,
	}
}

func batch(c *picloud.Context) any {
	if c.Batch() == nil {
		return nil
	}
	list := []any{}
	for _, b := range c.Batch() {
		list = append(list, map[string]any{"id": b.ID, "attempt": float64(b.Attempt), "event": envelope(&b.Event), "body": b.Body})
	}
	return list
}
