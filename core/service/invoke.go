package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/http/httpguts"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// invokeSend has another script of the app run. It sees a request, as with any other call by name.
func (c *call) invokeSend(ctx context.Context, args []byte) (any, error) {
	var in struct {
		Script string `json:"script"`
		message
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if err := c.mayCause(); err != nil {
		return nil, err
	}
	lane, err := c.target(in.Script)
	if err != nil {
		return nil, err
	}
	request := &event.HTTP{Method: http.MethodPost, Path: "/"}
	if in.ContentType != "" {
		request.Headers = []event.Header{{Name: "Content-Type", Value: in.ContentType}}
	}
	e, err := c.entry(lane, outbox.KindInvoke, &in.message, event.Envelope{
		Type: "http.request", Subject: request.Path, HTTP: request,
	})
	if err != nil {
		return nil, err
	}
	id, err := c.send(ctx, e)
	if err != nil {
		return nil, err
	}
	return struct {
		ID uuid.UUID `json:"id"`
	}{id}, nil
}

// target is the lane of a script of the app that can be called.
func (c *call) target(name string) (*tenant.Lane, error) {
	snapshot := c.snapshot()
	script := snapshot.ScriptNamed(c.run.Entry.App, name)
	if script == nil {
		return nil, fault.New(fault.NotFound, fault.Script, "there is no script %q in this app", name)
	}
	if err := runnable(script); err != nil {
		return nil, err
	}
	return snapshot.Lane(script.ID), nil
}

// Callees are runs that others wait for.
type Callees interface {
	// Call takes a sync entry in for the run of from, which waits, and returns its answer. Errors are faults, those of core/outbox
	// that Append has, or the cause of ctx's end, which ends the run of e too.
	Call(ctx context.Context, e, from *outbox.Entry) (*Answer, error)
}

// Answer is what a script answered.
type Answer struct {
	Status  int
	Headers []event.Header
	Body    []byte
}

// maxAnswer is how large an answer may be that a script waits for.
const maxAnswer = 10 << 20

// invokeCall has another script of the app run, and waits for its answer: at most once, and no longer than the run has itself.
func (c *call) invokeCall(ctx context.Context, args []byte) (any, error) {
	var in struct {
		Script     string                     `json:"script"`
		Headers    map[string]json.RawMessage `json:"headers"`
		Body       json.RawMessage            `json:"body"`
		BodyBase64 []byte                     `json:"body_base64"`
		TimeoutMS  int64                      `json:"timeout_ms"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if in.TimeoutMS < 0 {
		return nil, invalid("timeout_ms: must be a number of milliseconds; without one the callee has its own time")
	}
	if err := c.mayCause(); err != nil {
		return nil, err
	}
	lane, err := c.target(in.Script)
	if err != nil {
		return nil, err
	}
	e, err := c.callee(ctx, lane, in.Headers, in.Body, in.BodyBase64, duration(in.TimeoutMS))
	if err != nil {
		return nil, err
	}
	answer, err := c.callees.Call(ctx, e, c.run.Entry)
	var f *fault.Fault
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.As(err, &f):
		return nil, calleeFault(f, in.Script, e)
	case err != nil:
		return nil, c.refusal(ctx, e, err)
	case len(answer.Body) > maxAnswer:
		return nil, fault.New(fault.Limit, fault.Script, "the script %q answered with %d bytes, more than %d: have it store them and answer where they are",
			in.Script, len(answer.Body), maxAnswer)
	}
	headers := http.Header{}
	for _, h := range answer.Headers {
		headers.Add(h.Name, h.Value)
	}
	return response(answer.Status, headers, answer.Body)
}

// callee makes the entry of a call. Its time is its own, what the call says, or what the caller has left, whichever is least.
func (c *call) callee(
	ctx context.Context, lane *tenant.Lane, given map[string]json.RawMessage, value json.RawMessage, bytes []byte, timeout time.Duration,
) (*outbox.Entry, error) {
	headers := http.Header{}
	if err := addHeaders(headers, given); err != nil {
		return nil, err
	}
	body, err := bodyOf(value, bytes, headers)
	if err != nil {
		return nil, err
	}
	request := &event.HTTP{Method: http.MethodPost, Path: "/"}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		for _, v := range headers[name] {
			if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(v) {
				return nil, invalid("headers: %q cannot be sent as a header", fault.Cut(name, 100))
			}
			request.Headers = append(request.Headers, event.Header{Name: name, Value: v})
		}
	}
	now := *lane
	now.Policy = tenant.Policy{} // what it says is for events, not for a caller that waits
	e, err := c.entry(&now, outbox.KindInvoke, &message{DataBase64: append([]byte{}, body...), ContentType: headers.Get("Content-Type")}, event.Envelope{
		Type: "http.request", Subject: request.Path, HTTP: request,
	})
	if err != nil {
		return nil, err
	}
	if timeout > 0 {
		e.Timeout = min(e.Timeout, timeout)
	}
	if deadline, ok := ctx.Deadline(); ok {
		e.Timeout = min(e.Timeout, time.Until(deadline))
	}
	e.Timeout = max(e.Timeout, time.Millisecond)
	return e, nil
}

// calleeFault is the fault of a callee as its caller sees it: it is still whose fault it was, and says which script it was.
func calleeFault(f *fault.Fault, script string, e *outbox.Entry) *fault.Fault {
	told := fault.New(f.Kind, f.Origin, "the script %q failed in execution %s: %s", script, e.ID, f.Message)
	if f.Kind == fault.Unavailable {
		told.Message = fmt.Sprintf("the script %q was not started: %s", script, f.Message)
	}
	told.RetryAfter = f.RetryAfter
	return told
}

// runnable says why a script cannot be the target of an event.
func runnable(s *tenant.Script) error {
	switch {
	case s.Kind == tenant.KindModule:
		return invalid("%q is a module, which other scripts import; it cannot be called", s.Name)
	case s.Version == 0:
		return invalid("the script %q has no active version: deploy one first", s.Name)
	}
	return nil
}
