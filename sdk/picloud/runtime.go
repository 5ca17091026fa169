package picloud

import (
	"net/http"
	"net/url"
	"time"

	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// Runtime is what an engine provides for one run. Scripts do not see it.
type Runtime interface {
	// Log takes one line. data is what the script gave beside the message: nothing, one value, or several that make a
	// list. A line is not lost over data that JSON has no form for: say so in its place.
	Log(level, message string, data []any)
	// Call asks a service of the host, such as "queue" for "send", and waits for its answer. Errors are faults, or those
	// of the run's context.
	Call(service, method string, args []byte) ([]byte, error)
	// JSON encodes a value as the script means it.
	JSON(v any) ([]byte, error)
	// Done is closed when the run is over.
	Done() <-chan struct{}
}

// NewContext makes the context of one run. It is for engines; scripts do not see it.
func NewContext(r Runtime, executionID string, attempt int, e *event.Envelope, body []byte) *Context {
	c := &Context{
		Event: Event{
			ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Time: e.Time, ContentType: e.ContentType,
		},
		ExecutionID: executionID, Attempt: attempt, SDKVersion: Version, Log: &Logger{r}, HTTP: &HTTP{r}, Secrets: &Secrets{r},
		runtime: r,
	}
	c.Request.Body = body
	if e.Type == event.BatchType {
		c.batch = messages(r, body)
	}
	h := e.HTTP
	if h == nil {
		return c
	}
	q := &c.Request
	q.Method, q.Host, q.Path, q.Rest = h.Method, h.Host, h.Path, h.Rest
	q.Headers = make(http.Header, len(h.Headers))
	for _, x := range h.Headers {
		q.Headers[x.Name] = append(q.Headers[x.Name], x.Value)
	}
	q.Query = url.Values{}
	if h.Query != "" {
		q.Query, _ = url.ParseQuery(h.Query) // what can be read of a malformed query is what every Go server sees
	}
	q.Params = make(map[string]string, len(h.Params))
	for _, p := range h.Params {
		q.Params[p.Name] = p.Value
	}
	return c
}

// Ask asks a service with JSON, and returns its answer or an *Error. It is for engines; scripts do not see it.
func Ask(r Runtime, service, method string, args []byte) ([]byte, error) {
	b, err := r.Call(service, method, args)
	return b, serviceError(err)
}

// Failed is the fault of a run whose Handle returned err. It is for engines; scripts do not see it.
func Failed(err error) *fault.Fault {
	f := fault.New(fault.ScriptError, fault.Script, "%s", err.Error())
	f.RetryAfter, f.Fatal = wishes(err)
	f.RetryAfter = max(0, f.RetryAfter)
	if f.RetryAfter > 0 && f.RetryAfter < time.Millisecond {
		f.RetryAfter = time.Millisecond // what travels is milliseconds, and zero is no wish
	}
	return f
}

// EncodeBatchResult makes the body of the answer of a run that returned r, to be sent under event.BatchContentType. It is
// for engines; scripts do not see it.
func EncodeBatchResult(r *BatchResult) ([]byte, error) { return r.encode() }
