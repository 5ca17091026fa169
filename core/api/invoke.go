package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
)

// maxPayload is how much data an event may carry, as on the public listener.
const maxPayload = 6 << 20

// NewInvocation is a request as the script sees it.
type NewInvocation struct {
	Method     string   `json:"method,omitempty" maxLength:"32" default:"POST"`
	Path       string   `json:"path,omitempty" maxLength:"8192" default:"/" doc:"Decoded"`
	Query      string   `json:"query,omitempty" maxLength:"8192" example:"page=2" doc:"Without the question mark"`
	Headers    []Header `json:"headers,omitempty" maxItems:"100"`
	Body       string   `json:"body,omitempty" example:"{\"name\":\"Ada\"}" doc:"As text; or see body_base64"`
	BodyBase64 []byte   `json:"body_base64,omitempty" doc:"As bytes"`
	Async      bool     `json:"async,omitempty" doc:"Answer once the event is safe, and try again if the script fails"`

	Delivery *Delivery `json:"delivery,omitempty" doc:"Of an asynchronous call"`
}

// Header is one header line.
type Header struct {
	Name  string `json:"name" minLength:"1" maxLength:"256" example:"Accept"`
	Value string `json:"value" maxLength:"8192" example:"text/plain"`
}

// InvocationResult is the script's answer; of an asynchronous call, only the execution's id.
type InvocationResult struct {
	ExecutionID string   `json:"execution_id" format:"uuid"`
	Status      int      `json:"status" example:"200" doc:"Of the script's answer; 202 where it will run later"`
	Headers     []Header `json:"headers"`
	Body        string   `json:"body" doc:"Empty where it is not text; see body_base64"`
	BodyBase64  []byte   `json:"body_base64,omitempty" doc:"The body where it is not UTF-8"`
}

func (a *api) registerInvoke(doc huma.API) {
	register(a, doc, operation{
		id: "invoke-script", method: http.MethodPost, path: scriptPath + "/invoke", tag: "scripts", capability: auth.AppInvoke,
		summary: "Call a script without a route",
		text:    "What the script answers, whatever its status, is a 200 here. A run that fails is a problem with the execution's id.",
		maxBody: maxPayload*4/3 + maxBody,
	}, a.invoke)
}

func (a *api) invoke(ctx context.Context, in *struct {
	ScriptPath
	KeyHeader
	Body NewInvocation
},
) (*body[InvocationResult], error) {
	call, err := invocation(&in.Body, by(ctx))
	if err != nil {
		return nil, err
	}
	if call.Options, err = in.Body.Delivery.options("body.delivery."); err != nil {
		return nil, err
	}
	if !in.Body.Async && (in.Body.Delivery != nil || in.IdempotencyKey != "") {
		return nil, wrong("body.async", "only an asynchronous call has a delivery or an idempotency key")
	}
	s, err := a.Scripts.Get(ctx, app(ctx), in.Script)
	if err != nil {
		return nil, err
	}
	if s.Kind != tenant.KindEndpoint {
		return nil, &tenant.Conflict{Message: fmt.Sprintf("%q is a module, which other scripts import; it cannot be called", s.Name)}
	}
	if s.Version == 0 {
		return nil, &tenant.Conflict{Message: fmt.Sprintf("%q has no active version", s.Name)}
	}
	if call.Idempotency, err = in.idempotency(s.ID, in.Body); err != nil {
		return nil, err
	}
	r, err := a.Invoker.Invoke(ctx, s.Script, call)
	if duplicate := (*outbox.Duplicate)(nil); errors.As(err, &duplicate) {
		r.ExecutionID, err = duplicate.Entry, nil
	}
	if err != nil {
		mapped := a.problemOf(ctx, "invoke-script", err)
		if p := (*Problem)(nil); errors.As(mapped, &p) {
			p.ExecutionID = optional(r.ExecutionID)
		}
		return nil, mapped
	}
	out := InvocationResult{ExecutionID: r.ExecutionID.String(), Status: r.Status, Headers: []Header{}}
	if in.Body.Async {
		out.Status = http.StatusAccepted
	}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, Header{h.Name, h.Value})
	}
	out.Body, out.BodyBase64 = textOrBytes(r.Body)
	return answer(out), nil
}

func invocation(in *NewInvocation, principal uuid.UUID) (Invocation, error) {
	method, err := tenant.ParseMethod(in.Method)
	if err != nil || method == tenant.MethodAny {
		return Invocation{}, wrong("body.method", fmt.Sprintf("%q is not a method of a request", in.Method))
	}
	if in.Path[0] != '/' {
		return Invocation{}, wrong("body.path", "a path begins with a slash")
	}
	call := Invocation{
		Method: method, Path: in.Path, Query: in.Query, Body: in.BodyBase64, Async: in.Async, Principal: principal,
	}
	if in.Body != "" {
		if in.BodyBase64 != nil {
			return call, wrong("body.body_base64", "body and body_base64 exclude each other")
		}
		call.Body = []byte(in.Body)
	}
	if len(call.Body) > maxPayload {
		return call, kindNamed("too_large").problem(fmt.Sprintf("the body is over %d bytes", maxPayload))
	}
	for _, h := range in.Headers {
		call.Headers = append(call.Headers, event.Header{Name: http.CanonicalHeaderKey(h.Name), Value: h.Value})
	}
	return call, nil
}

// textOrBytes returns b as text where JSON can carry it so, else as bytes.
func textOrBytes(b []byte) (string, []byte) {
	if utf8.Valid(b) {
		return string(b), nil
	}
	return "", b
}
