package yaegi_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/picloud/picloud/plugins/engine/yaegi"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// callFunc is a host that answers a service call.
type callFunc func(service, method string, args []byte) ([]byte, error)

// runWith runs the body of a Handle once, with a host.
func runWith(t *testing.T, e *event.Envelope, data string, host callFunc, imports []string, body string) (*answer, error) {
	t.Helper()
	s := yaegi.New()
	load(t, s, "x", script(imports, body))
	a := &answer{}
	err := s.Invoke(t.Context(), &engine.Invocation{
		Bundle: "x", ExecutionID: "x1", Attempt: 1, Event: e, Body: []byte(data),
		Log: func(l engine.Log) { a.logs = append(a.logs, l) },
		Call: func(_ context.Context, service, method string, args []byte) ([]byte, error) {
			return host(service, method, args)
		},
	}, sink{a})
	return a, err
}

func TestInvoke(t *testing.T) {
	t.Parallel()
	var asked string
	a, err := runWith(t, &event.Envelope{}, "", func(service, method string, args []byte) ([]byte, error) {
		asked = service + "." + method + " " + string(args)
		return []byte(`{"id":"e7"}`), nil
	}, []string{"time"}, `
	type order struct { Items []string; secret int }
	id, err := ctx.Invoke("bill", order{Items: []string{"a"}, secret: 3}, &picloud.Delivery{Delay: time.Second, OrderingKey: "k"})
	return id, err`)
	if err != nil || a.body.String() != `"e7"` {
		t.Fatalf("%q, %v", a.body.String(), err)
	}
	want := `invoke.send {"script":"bill","data":"{\"Items\":[\"a\"]}","content_type":"application/json",` +
		`"delivery":{"delay_ms":1000,"ordering_key":"k"}}`
	if asked != want {
		t.Errorf("asked %s\nwant  %s", asked, want)
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	var asked string
	a, err := runWith(t, &event.Envelope{}, "", func(_, _ string, args []byte) ([]byte, error) {
		asked = string(args)
		return []byte(`{"messages":[{"id":"a"},{"code":"overloaded","error":"too much","retry_after_ms":1500},{"id":"c"}]}`), nil
	}, []string{"errors"}, `
	ids, err := ctx.Queue("mail").SendAll([]any{"text", []byte{255}, map[string]any{"n": 1}})
	var e *picloud.Error
	return []any{ids, errors.As(err, &e), e.Code, e.Message, e.RetryAfter.Seconds(), picloud.Code(err) == picloud.Overloaded}, nil`)
	if err != nil || a.body.String() != `[["a","","c"],true,"overloaded","too much",1.5,true]` {
		t.Fatalf("%q, %v", a.body.String(), err)
	}
	want := `{"queue":"mail","messages":[{"data":"text","content_type":"text/plain; charset=utf-8"},` +
		`{"data_base64":"/w==","content_type":"application/octet-stream"},{"data":"{\"n\":1}","content_type":"application/json"}]}`
	if asked != want {
		t.Errorf("asked %s\nwant  %s", asked, want)
	}
}

// What a service refuses is an error that the script can look into, and the run goes on.
func TestServiceErrors(t *testing.T) {
	t.Parallel()
	a, err := runWith(t, &event.Envelope{}, "", func(string, string, []byte) ([]byte, error) {
		return nil, fault.New(fault.LoopDepth, fault.Script, "in a circle")
	}, []string{"fmt"}, `
	_, err := ctx.Invoke("self", nil)
	wrapped := fmt.Errorf("again: %w", err)
	_, sendErr := ctx.Queue("q").Send(make(chan int))
	return []any{picloud.Code(wrapped) == picloud.LoopDepth, wrapped.Error(), sendErr.Error()}, nil`)
	if want := `[true,"again: loop_depth: in a circle","invalid_argument: the data cannot be sent: JSON has no form for a chan int"]`; err != nil ||
		a.body.String() != want {
		t.Fatalf("%q, %v", a.body.String(), err)
	}
}

func TestWishes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body    string
		message string
		after   time.Duration
		fatal   bool
	}{
		"retry":        {`return nil, picloud.RetryAfter(errors.New("later"), time.Minute)`, "later", time.Minute, false},
		"wrapped":      {`return nil, fmt.Errorf("a: %w", picloud.RetryAfter(errors.New("b"), time.Second))`, "a: b", time.Second, false},
		"joined":       {`return nil, errors.Join(errors.New("a"), picloud.RetryAfter(errors.New("b"), time.Second))`, "a\nb", time.Second, false},
		"fatal":        {`return nil, picloud.Fatal(errors.New("never"))`, "never", 0, true},
		"fatal within": {`return nil, picloud.RetryAfter(fmt.Errorf("x: %w", picloud.Fatal(errors.New("y"))), time.Second)`, "x: y", 0, true},
		"own type":     {`return nil, picloud.Fatal(own{"mine"})`, "mine", 0, true},
		"past":         {`return nil, picloud.RetryAfter(errors.New("a"), -time.Second)`, "a", 0, false},
		"little":       {`return nil, picloud.RetryAfter(errors.New("a"), time.Microsecond)`, "a", time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := yaegi.New()
			load(t, e, "x", script([]string{"errors", "fmt", "time"}, c.body)+`
var _, _, _ = errors.New, fmt.Sprint, time.Second
type own struct{ text string }
func (o own) Error() string { return o.text }`)
			_, err := invoke(t.Context(), e, "x", "")
			f := fault.From(err)
			if f == nil || f.Kind != fault.ScriptError || f.Message != c.message || f.RetryAfter != c.after || f.Fatal != c.fatal {
				t.Errorf("%+v", f)
			}
		})
	}
	if a, err := runWith(t, &event.Envelope{}, "", nil, []string{"time"},
		`return nil, picloud.Fatal(picloud.RetryAfter(nil, time.Second))`); err != nil || a.Status != 204 {
		t.Errorf("no error became one: %v", err)
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	batch, err := json.Marshal(event.Batch{Items: []event.BatchItem{
		event.NewBatchItem("m1", 1, &event.Envelope{ID: "v1", Type: "t", Source: "s"}, []byte(`{"n":1}`)),
		event.NewBatchItem("m2", 3, &event.Envelope{ID: "v2", ContentType: "c"}, []byte{255, 0}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := runWith(t, &event.Envelope{Type: event.BatchType}, string(batch), nil, []string{"fmt", "time"}, `
	var failures []picloud.Failure
	for _, m := range ctx.Batch() {
		var v struct { N int }
		if err := m.JSON(&v); err != nil {
			failures = append(failures, picloud.Failure{ID: m.ID, Error: "bad", RetryAfter: time.Second, Fatal: true})
		}
		ctx.Log.Info(fmt.Sprintf("%s/%d/%s/%s%s/%s/%d", m.ID, m.Attempt, m.Event.ID, m.Event.Type, m.Event.ContentType, m.Body, v.N))
	}
	return picloud.BatchResult{Failures: failures}, nil`)
	if err != nil || a.header("Content-Type") != event.BatchContentType ||
		a.body.String() != `{"failures":[{"id":"m2","error":"bad","retry_after_ms":1000,"fatal":true}]}` {
		t.Fatalf("%s %v %v", a.body.String(), a.Headers, err)
	}
	if len(a.logs) != 2 || a.logs[0].Message != `m1/1/v1/t/{"n":1}/1` || a.logs[1].Message != "m2/3/v2/c/\xff\x00/0" {
		t.Errorf("%+v", a.logs)
	}
	if a, err = runWith(t, &event.Envelope{Type: "http.request"}, string(batch), nil, nil, `return ctx.Batch() == nil, nil`); err != nil ||
		a.body.String() != "true" {
		t.Errorf("a run for one event: %q, %v", a.body.String(), err)
	}
}
