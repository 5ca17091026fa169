// Package picloud is what a Go script of the platform imports. A script is a package main with a function
//
//	func Handle(ctx *picloud.Context) (any, error)
//
// which is called once for each request or event. What it returns becomes the answer:
//
//   - a Response is sent as it is;
//   - nil is an empty answer with status 204;
//   - anything else is sent as JSON with status 200;
//   - an error makes the run fail: a caller has a 502, an event is tried again. RetryAfter and Fatal say when, or that it
//     is not.
//
// Context.Invoke and Context.Queue send events to other scripts of the app: what they answer is that the event is safe,
// not that it was handled. A run that handles several events at once finds them in Context.Batch.
//
// Globals live as long as the interpreter that holds them, which serves one call at a time; there may be several, and
// they come and go, so globals are good for caches and for nothing else. Goroutines end with the call that started them, at
// most a thousand may live at a time, and a panic in one fails the run.
//
// A script may have several files, and imports modules of its app as "app/<name>": scripts too, of a package of any name.
//
// Scripts are written in Go 1.22, without range over functions. What the interpreter would get wrong is refused, with what to
// write instead: a loop variable that a function or pointer keeps and the loop's body changes, a defer that uses what a loop
// around it declares, a deferred call of a function value that the same function has made, and a select that several goroutines may run
// with channels or values of their own. Scripts import this package and
// those of the standard library that only compute; Context.Sleep stands for time.Sleep. encoding/json sees the fields of a script's types but calls MarshalJSON only on
// the value that it is given, never on what is inside, UnmarshalJSON not at all, and treats an embedded struct as a field
// with its type's name. An error that was made of a nil pointer is nil, where Go would have an error that holds nil, and
// errors.As and errors.Is see of errors of a script's own types neither the type nor what they wrap.
package picloud

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Version of what scripts see, in whatever language. 1.1 brought Context.Invoke, Context.Queue, Context.Batch, Error, RetryAfter and
// Fatal; 1.2 modules of the app, and limits that a script has for itself; 1.3 Context.KV, Context.Docs, Context.Files, Context.Publish,
// Context.PublishEphemeral, Context.HTTP, Context.Secrets, Context.Call, Context.Retry, Context.Sink, Context.SendEmail, Queue.Depth and
// Queue.Purge.
const Version = "1.3"

// Context is one call of a script. It is valid until Handle returns.
type Context struct {
	// Request is the HTTP request, or what a caller by name gave in its place.
	Request Request
	// Event is the event that this call handles.
	Event Event
	// ExecutionID names the delivery of the event to this script. It stays the same over attempts, so it is good for
	// recognising work that was done already.
	ExecutionID string
	// Attempt counts the starts of this delivery, this one included.
	Attempt int
	// SDKVersion is the version of this package that the platform runs.
	SDKVersion string
	// Log writes to the record of this execution.
	Log *Logger
	// HTTP makes requests to the world outside.
	HTTP *HTTP
	// Secrets are values that only scripts of the app read.
	Secrets *Secrets

	runtime Runtime
	batch   []Message
}

// Event is the envelope of an event.
type Event struct {
	ID      string
	Source  string // who reports it, such as "http"
	Type    string // what happened, such as "http.request"
	Subject string // what it is about
	Time    time.Time
	// ContentType of the event's data; empty: unknown.
	ContentType string
}

// Headers are those of a request or an answer: Get, Set and Add take names in any case.
type Headers = http.Header

// Request is an HTTP request.
type Request struct {
	Method  string
	Host    string
	Path    string // decoded
	Headers Headers
	Query   url.Values
	Params  map[string]string // of the route: "/users/{id}" gives "id"
	Rest    string            // what {rest...} of the route matched
	Body    []byte
}

// Header returns the first value of a header, in any case; "" if there is none.
func (r *Request) Header(name string) string { return r.Headers.Get(name) }

// Param returns a path parameter of the route, "" if there is none.
func (r *Request) Param(name string) string { return r.Params[name] }

// JSON decodes the body into v.
func (r *Request) JSON(v any) error {
	if err := json.Unmarshal(r.Body, v); err != nil {
		return fmt.Errorf("the body is not the JSON that is expected: %w", err)
	}
	return nil
}

// Response is an answer that says more than a value can.
type Response struct {
	Status  int // 0 means 200
	Headers Headers
	// Body is sent as it is if it is a []byte or a string, else as JSON. A Content-Type is set where Headers has none.
	Body any
}

// Sleep waits, or returns early with an error when the run is over.
func (c *Context) Sleep(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	done := c.runtime.Done()
	select {
	case <-t.C:
		return nil
	case <-done:
		return context.Canceled
	}
}

// Logger writes lines to the record of an execution. data is optional: one value, or several that become a list; it is
// kept as JSON, and an error as its text.
type Logger struct{ runtime Runtime }

// Trace logs what only helps to find a fault.
func (l *Logger) Trace(message string, data ...any) { l.log("trace", message, data) }

// Debug logs what helps to understand a run.
func (l *Logger) Debug(message string, data ...any) { l.log("debug", message, data) }

// Info logs what happened.
func (l *Logger) Info(message string, data ...any) { l.log("info", message, data) }

// Warn logs what should be looked at.
func (l *Logger) Warn(message string, data ...any) { l.log("warn", message, data) }

// Error logs what went wrong.
func (l *Logger) Error(message string, data ...any) { l.log("error", message, data) }

func (l *Logger) log(level, message string, data []any) {
	list := data
	for i, v := range data {
		_, encodes := v.(json.Marshaler)
		if err, is := v.(error); is && !encodes { // most are {} as JSON
			if &list[0] == &data[0] {
				list = slices.Clone(data)
			}
			list[i] = fmt.Sprint(err) // which takes a nil pointer, too
		}
	}
	l.runtime.Log(level, message, list)
}
