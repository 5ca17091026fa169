package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tetratelabs/wazero/sys"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
	"github.com/picloud/picloud/sdk/picloud/guest"
	"github.com/picloud/picloud/sdk/script"
)

// run is one run of a module, or the start of an instance.
type run struct {
	ctx    context.Context
	end    context.CancelCauseFunc
	caller context.Context // whose end is that of the run
	inv    *engine.Invocation
	in     *instance
	inHost atomic.Int32 // calls of the host that the module waits for

	input   []byte
	unread  []byte // of the input, by who reads it as a file
	result  []byte // of the last service call
	output  output
	console console
}

// newRun makes a run; it must be ended. limit bounds an answer's body.
func newRun(ctx context.Context, inv *engine.Invocation, limit int) *run {
	x := &run{caller: ctx, inv: inv}
	x.ctx, x.end = context.WithCancelCause(context.WithValue(ctx, runKey{}, x))
	x.output = output{run: x, limit: 2*limit + 64<<10} // what is written as base64, or with characters that are escaped, is longer
	x.console.run = x
	return x
}

// Fail is part of watch.Run.
func (x *run) Fail(f *fault.Fault) { x.end(f) }

// Waits is part of watch.Run.
func (x *run) Waits() bool { return x.inHost.Load() > 0 }

// newInput tells a module of its run.
func newInput(ctx context.Context, inv *engine.Invocation) ([]byte, error) {
	e := inv.Event
	in := guest.Input{
		ExecutionID: inv.ExecutionID, Attempt: inv.Attempt, SDKVersion: picloud.Version,
		Event: guest.Event{ID: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Time: e.Time.UTC(), ContentType: e.ContentType},
	}
	in.Deadline, _ = ctx.Deadline()
	switch {
	case e.Type == event.BatchType:
		var batch struct{ Items json.RawMessage }
		if err := json.Unmarshal(inv.Body, &batch); err != nil { // the host made it, so this is a defect of the platform
			return nil, fmt.Errorf("read the batch: %w", err)
		}
		in.Batch = batch.Items
	case utf8.Valid(inv.Body):
		in.Body = string(inv.Body)
	default:
		in.BodyBase64 = inv.Body
	}
	if h := e.HTTP; h != nil {
		q := &guest.Request{Method: h.Method, Host: h.Host, Path: h.Path, Rest: h.Rest, Headers: http.Header{}, Params: map[string]string{}}
		for _, x := range h.Headers {
			q.Headers[x.Name] = append(q.Headers[x.Name], x.Value)
		}
		q.Query, _ = url.ParseQuery(h.Query) // what can be read of a malformed query is what every Go server sees
		for _, p := range h.Params {
			q.Params[p.Name] = p.Value
		}
		in.Request = q
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(in)
	return b.Bytes(), err
}

// failure is the fault of a run whose code ended with err; nil: it ended as it should.
func (x *run) failure(err error) error {
	x.console.flush()
	line, tail := x.console.said()
	var exit *sys.ExitError
	exited := errors.As(err, &exit)
	var known *fault.Fault
	switch {
	case x.caller.Err() != nil:
		return script.EndOf(x.caller)
	case x.ctx.Err() != nil && errors.As(context.Cause(x.ctx), &known):
		return known
	case err == nil, exited && exit.ExitCode() == 0 && x.in.begun && x.in.program.command:
		return nil
	case x.in.memory.refused != nil:
		return x.in.memory.refused
	case errors.As(err, &known):
		return known
	case exited:
		kind := fault.ScriptError
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			kind = fault.ScriptPanic
		}
		if line == "" {
			line = fmt.Sprintf("the script exited with code %d", exit.ExitCode())
		}
		f := fault.New(kind, fault.Script, "%s", line)
		f.Detail = tail
		return f
	}
	return trapped(err, line, tail)
}

// trapped is the fault of a run that the machine has ended.
func trapped(err error, line, tail string) error {
	what, trace, _ := strings.Cut(err.Error(), "\n")
	what = strings.TrimPrefix(what, "wasm error: ")
	if what == "stack overflow" {
		return fault.New(fault.Limit, fault.Script, "the script's calls are nested too deeply: stack overflow")
	}
	message := "the script trapped: " + what
	if line != "" {
		message = line + " (" + what + ")"
	}
	f := fault.New(fault.ScriptPanic, fault.Script, "%s", message)
	f.Detail = strings.TrimSpace(tail + "\n" + trace)
	return f
}

// answered is what the module's output says, in the form of script.NewAnswer.
func (x *run) answered() (any, error) {
	text := bytes.TrimSpace(x.output.bytes)
	if len(text) == 0 || string(text) == "null" {
		return nil, nil
	}
	var a guest.Answer
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&a)
	if err == nil && decoder.More() {
		err = errors.New("something follows the object")
	}
	if err != nil {
		return nil, unusable("it is not the JSON object that is expected: %v", err)
	}
	bodies := 0
	r := picloud.Response{Status: a.Status, Headers: picloud.Headers{}}
	for name, values := range a.Headers {
		for _, v := range values {
			r.Headers.Add(name, v)
		}
	}
	if a.Body != nil {
		bodies, r.Body = bodies+1, a.Body
	}
	if a.Text != nil {
		bodies, r.Body = bodies+1, *a.Text
	}
	if a.Base64 != nil {
		bodies, r.Body = bodies+1, *a.Base64
	}
	switch {
	case bodies > 1:
		return nil, unusable("it has more than one of body, text and base64")
	case a.Error != nil && a.Error.Invalid:
		return nil, fault.New(fault.InvalidResponse, fault.Script, "what the script returned cannot be sent: %s", a.Error.Message)
	case a.Error != nil:
		f := fault.New(fault.ScriptError, fault.Script, "%s", a.Error.Message)
		f.Fatal = a.Error.Fatal
		if ms := min(a.Error.RetryAfterMS, longest.Milliseconds()); ms > 0 && !f.Fatal {
			f.RetryAfter = time.Duration(ms) * time.Millisecond
		}
		return nil, f
	case a.Failures != nil:
		out := picloud.BatchResult{}
		for _, f := range *a.Failures {
			out.Failures = append(out.Failures, picloud.Failure{
				ID: f.ID, Error: f.Error, Fatal: f.Fatal,
				RetryAfter: time.Duration(min(f.RetryAfterMS, longest.Milliseconds())) * time.Millisecond,
			})
		}
		return out, nil
	}
	return r, nil
}

// longest bounds what a script may wish to wait.
const longest = 366 * 24 * time.Hour

func unusable(format string, args ...any) error {
	return fault.New(fault.InvalidResponse, fault.Script, "what the script wrote is no answer: %s", fmt.Sprintf(format, args...))
}

// encode writes a value of an answer, which is JSON already.
func encode(v any) ([]byte, error) {
	if raw, ok := v.(json.RawMessage); ok {
		return raw, nil
	}
	return json.Marshal(v)
}
