package picloud_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

// host is a runtime whose services answer what a test says.
type host struct {
	answer string
	err    error

	called string
	args   map[string]any
}

func (h *host) Call(service, method string, args []byte) ([]byte, error) {
	h.called = service + "." + method
	h.args = nil
	if err := json.Unmarshal(args, &h.args); err != nil {
		return nil, err
	}
	return []byte(h.answer), h.err
}

func (h *host) JSON(v any) ([]byte, error) { return json.Marshal(v) }
func (h *host) Log(string, string, []any)  {}
func (h *host) Done() <-chan struct{}      { return nil }

func newContext(h *host) *picloud.Context {
	return picloud.NewContext(h, "x1", 1, &event.Envelope{}, nil)
}

// What is not there is said to be none, and no JSON that ends too early.
func TestNothing(t *testing.T) {
	t.Parallel()
	c := newContext(&host{answer: `{"key":"k","version":0}`})
	item, err := c.KV("c").Entry("k")
	if err != nil {
		t.Fatal(err)
	}
	doc, found, err := c.Docs("c").Doc("d")
	if err != nil || found {
		t.Fatal(found, err)
	}
	var v any
	_, sent := c.SendEmail(nil)
	for err, want := range map[error]string{
		item.JSON(&v): `not_found: there is no value of the key "k"`, doc.JSON(&v): "not_found: there is no such document",
		sent: "invalid_argument: there is no message",
	} {
		if err == nil || err.Error() != want {
			t.Errorf("%v, not %s", err, want)
		}
	}
}

func TestEveryDeliveryFieldIsSent(t *testing.T) {
	t.Parallel()
	h := &host{answer: `{"id":"e1"}`}
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	id, err := newContext(h).Invoke("s", nil, &picloud.Delivery{
		Delay: time.Microsecond, RunAt: at, ExpiresIn: time.Minute, Priority: -3, MaxAttempts: 4, OrderingKey: "o",
		ConcurrencyKey: "c", RateKey: "r", DebounceKey: "d", IdempotencyKey: "i",
	})
	if id != "e1" || err != nil || h.called != "invoke.send" {
		t.Fatalf("%q, %v, %s", id, err, h.called)
	}
	want := `map[delivery:map[concurrency_key:c debounce_key:d delay_ms:1 expires_in_ms:60000 idempotency_key:i max_attempts:4 ` +
		`ordering_key:o priority:-3 rate_key:r run_at:2026-11-23T10:00:00Z] script:s]`
	if got := fmt.Sprint(h.args); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	h := &host{answer: `{"messages":[{"id":"e1"}]}`}
	q := newContext(h).Queue("mail")
	if id, err := q.Send("hi", nil); id != "e1" || err != nil || h.called != "queue.send" {
		t.Errorf("%q, %v, %s", id, err, h.called)
	}
	h.answer = `{"messages":[{"code":"not_found","error":"there is no queue"}]}`
	if id, err := q.Send(1); id != "" || picloud.Code(err) != picloud.NotFound || err.Error() != "not_found: there is no queue" {
		t.Errorf("%q, %v", id, err)
	}
	h.called = ""
	if _, err := q.SendAll([]any{1, func() {}}); picloud.Code(err) != picloud.InvalidArgument || h.called != "" ||
		!strings.Contains(err.Error(), "message 1: ") {
		t.Errorf("%v, %s", err, h.called)
	}
	if _, err := q.Send(1, &picloud.Delivery{}, &picloud.Delivery{}); picloud.Code(err) != picloud.InvalidArgument {
		t.Errorf("two deliveries: %v", err)
	}
	h.answer = "junk"
	if _, err := q.Send(1); picloud.Code(err) != string(fault.Internal) {
		t.Errorf("an answer that is none: %v", err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	busy := fault.New(fault.Overloaded, fault.Caller, "too much")
	busy.RetryAfter = 3 * time.Second
	for _, c := range []struct {
		err  error
		code string
	}{
		{busy, picloud.Overloaded},
		{fault.New(fault.LoopDepth, fault.Script, "x"), picloud.LoopDepth},
		{fault.New(fault.LoopBudget, fault.Script, "x"), picloud.LoopBudget},
		{fault.New(fault.NotFound, fault.Script, "x"), picloud.NotFound},
		{fault.New(fault.Invalid, fault.Script, "x"), picloud.InvalidArgument},
		{fault.New(fault.Unavailable, fault.Platform, "x"), picloud.Unavailable},
		{context.Canceled, "cancelled"},
		{context.DeadlineExceeded, "deadline"},
	} {
		_, err := newContext(&host{err: c.err}).Invoke("s", 1)
		if got := picloud.Code(fmt.Errorf("wrapped: %w", err)); got != c.code {
			t.Errorf("%v: %q, not %q", c.err, got, c.code)
		}
		var e *picloud.Error
		if errors.As(err, &e) && c.err == busy && e.RetryAfter != busy.RetryAfter {
			t.Errorf("%+v", e)
		}
	}
	if picloud.Code(nil) != "" || picloud.Code(errors.New("x")) != "" || picloud.Code((*picloud.Error)(nil)) != "" {
		t.Error("a code of what has none")
	}
}

func TestBatchResult(t *testing.T) {
	t.Parallel()
	b, err := picloud.EncodeBatchResult(&picloud.BatchResult{Failures: []picloud.Failure{
		{ID: "a", Error: strings.Repeat("é", 8<<10+len("…")), RetryAfter: time.Microsecond}, {ID: "b", RetryAfter: -time.Hour, Fatal: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := event.ParseBatchResult(b)
	if err != nil || len(r.Failures) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if f := r.Failures[0]; f.ID != "a" || len(f.Error) > 8<<10+len("…") || f.RetryAfterMS != 1 || f.Fatal {
		t.Errorf("%d bytes, %d ms, %+v", len(f.Error), f.RetryAfterMS, f.Fatal)
	}
	if f := r.Failures[1]; f.ID != "b" || f.RetryAfterMS != 0 || !f.Fatal {
		t.Errorf("%+v", f)
	}
	for _, bad := range []string{"", "[]", `{"failures":[{"error":"whose?"}]}`} {
		if _, err := event.ParseBatchResult([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
