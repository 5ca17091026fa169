package picloud

import (
	"net/http"
	"net/url"

	"github.com/picloud/picloud/sdk/event"
)

// Runtime is what an engine provides for one run. Scripts do not see it.
type Runtime interface {
	// Log takes one line. data is what the script gave beside the message: nothing, one value, or several that make a
	// list.
	Log(level, message string, data []any)
	// Done is closed when the run is over.
	Done() <-chan struct{}
}

// NewContext makes the context of one run. It is for engines; scripts do not see it.
func NewContext(r Runtime, executionID string, attempt int, e *event.Envelope, body []byte) *Context {
	c := &Context{
		Event:       Event{ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Time: e.Time},
		ExecutionID: executionID, Attempt: attempt, SDKVersion: Version, Log: &Logger{r}, runtime: r,
	}
	c.Request.Body = body
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
