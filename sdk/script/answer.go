// Package script is what engines do alike for every script, whatever its language: answers by the same rules, and faults that
// say the same.
package script

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"golang.org/x/net/http/httpguts"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

// BodyLimit bounds an answer where the bundle's limits do not say.
const BodyLimit = 6 << 20

// Answer is what a run is answered with.
type Answer struct {
	Head engine.Head
	Body []byte
}

var jsonHeader = []event.Header{{Name: "Content-Type", Value: "application/json"}}

// EncodeFunc writes a value of the script's language as JSON.
type EncodeFunc func(value any) ([]byte, error)

// NewAnswer makes an answer of what a script returned, by the rules in the doc comment of sdk/picloud: nil, a picloud.Response
// or picloud.BatchResult, a pointer to one, or anything else, which is encoded. So is the body of a response that is neither
// text nor bytes. limit bounds the answer's body, in bytes. Errors are faults.
func NewAnswer(value any, limit int, encode EncodeFunc) (a Answer, err error) {
	switch v := value.(type) {
	case nil:
		a.Head.Status = http.StatusNoContent
	case picloud.Response:
		a, err = fromResponse(&v, encode)
	case *picloud.Response:
		if v == nil {
			a.Head.Status = http.StatusNoContent
			break
		}
		a, err = fromResponse(v, encode)
	case picloud.BatchResult:
		a, err = fromBatch(&v)
	case *picloud.BatchResult:
		if v == nil {
			a.Head.Status = http.StatusNoContent
			break
		}
		a, err = fromBatch(v)
	default:
		a.Head = engine.Head{Status: http.StatusOK, Headers: jsonHeader}
		a.Body, err = encoded(value, encode)
	}
	if err == nil && len(a.Body) > limit {
		return Answer{}, fault.New(fault.Limit, fault.Script, "the answer has %d bytes, more than %d", len(a.Body), limit)
	}
	return a, err
}

var batchHeader = []event.Header{{Name: "Content-Type", Value: event.BatchContentType}}

func fromBatch(r *picloud.BatchResult) (a Answer, err error) {
	a.Head = engine.Head{Status: http.StatusOK, Headers: batchHeader}
	a.Body, err = picloud.EncodeBatchResult(r)
	return a, err
}

func fromResponse(r *picloud.Response, encode EncodeFunc) (a Answer, err error) {
	if a.Head.Status = r.Status; r.Status == 0 {
		a.Head.Status = http.StatusOK
	}
	if a.Head.Status < 200 || a.Head.Status > 599 {
		return a, invalid("the status %d is not one from 200 to 599", r.Status)
	}
	typed := false
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		canonical := http.CanonicalHeaderKey(name)
		for _, v := range r.Headers[name] {
			if err := checkHeader(canonical, v); err != nil {
				return a, err
			}
			a.Head.Headers = append(a.Head.Headers, event.Header{Name: canonical, Value: v})
			typed = typed || canonical == "Content-Type"
		}
	}
	kind := ""
	switch b := r.Body.(type) {
	case nil:
	case []byte:
		a.Body, kind = b, "application/octet-stream"
	case string:
		a.Body, kind = []byte(b), "text/plain; charset=utf-8"
	default:
		kind = "application/json"
		if a.Body, err = encoded(b, encode); err != nil {
			return a, err
		}
	}
	if len(a.Body) > 0 && (a.Head.Status == http.StatusNoContent || a.Head.Status == http.StatusNotModified) {
		return a, invalid("an answer with status %d has no body", a.Head.Status)
	}
	if kind != "" && !typed {
		a.Head.Headers = append(a.Head.Headers, event.Header{Name: "Content-Type", Value: kind})
	}
	return a, nil
}

// ownHeaders belong to the connection or tell the body's length, which is the platform's business.
var ownHeaders = []string{
	"Connection", "Content-Length", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te",
	"Trailer", "Transfer-Encoding", "Upgrade",
}

func checkHeader(name, value string) error {
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return invalid("the header name %q holds characters that HTTP does not allow", name)
	case !httpguts.ValidHeaderFieldValue(value):
		return invalid("the value of the header %s holds characters that HTTP does not allow", name)
	case slices.Contains(ownHeaders, name):
		return invalid("the header %s belongs to the connection, not to a script", name)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fault.New(fault.InvalidResponse, fault.Script, "what the script returned cannot be sent: %s", fmt.Sprintf(format, args...))
}

// encoded writes a value as JSON. One that JSON has no form for is the script's mistake.
func encoded(value any, encode EncodeFunc) ([]byte, error) {
	b, err := encode(value)
	if err != nil {
		return nil, invalid("%v", err)
	}
	return b, nil
}

// Send sends the whole answer.
func (a *Answer) Send(out engine.Reply) error {
	if err := out.Head(a.Head); err != nil {
		return fmt.Errorf("send head: %w", err)
	}
	if _, err := out.Write(a.Body); err != nil {
		return fmt.Errorf("send body: %w", err)
	}
	return nil
}

// EndOf is the fault of a run that was stopped with its context.
func EndOf(ctx context.Context) error {
	if context.Cause(ctx) == context.DeadlineExceeded {
		return fault.New(fault.Deadline, fault.Script, "the script did not finish in time")
	}
	return fault.New(fault.Cancelled, fault.Platform, "the run was cancelled")
}

// CompileFault is the fault of a source that is wrong.
func CompileFault(d engine.Diagnostic) *fault.Fault {
	f := fault.New(fault.Compile, fault.Script, "%s:%d:%d: %s", d.File, d.Line, d.Column, d.Message)
	f.Fatal = true
	return f
}
