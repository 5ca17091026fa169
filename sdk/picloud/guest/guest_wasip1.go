package guest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"
	"unsafe"

	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

// The host's functions, see plugins/engine/wasm.

//go:wasmimport picloud input
func hostInput(to unsafe.Pointer, size uint32) uint32

//go:wasmimport picloud output
func hostOutput(from unsafe.Pointer, size uint32)

//go:wasmimport picloud log
func hostLog(level uint32, message unsafe.Pointer, messageSize uint32, data unsafe.Pointer, dataSize uint32)

//go:wasmimport picloud call
func hostCall(
	service unsafe.Pointer, serviceSize uint32, method unsafe.Pointer, methodSize uint32, args unsafe.Pointer, argsSize uint32,
) int32

//go:wasmimport picloud result
func hostResult(to unsafe.Pointer, size uint32) uint32

// HandleFunc is the function that a script has.
type HandleFunc func(ctx *picloud.Context) (any, error)

//lint:ignore U1000 export reads it
var registered HandleFunc

// Register sets the function that serves the calls of a module that was built with -buildmode=c-shared. It is called from init.
func Register(handle HandleFunc) { registered = handle }

//
//lint:ignore U1000 the host calls it
//go:wasmexport handle
func export() {
	if registered == nil {
		fail(fmt.Errorf("nothing is registered: call guest.Register in init"))
	}
	Serve(registered)
}

// Serve has handle serve the one call that a program lives for. It is called from main.
func Serve(handle HandleFunc) {
	var in Input
	if err := json.Unmarshal(read(hostInput), &in); err != nil {
		fail(fmt.Errorf("the input cannot be read: %w", err))
	}
	value, err := handle(newContext(&in))
	out, err := newAnswer(value, err)
	if err != nil {
		out = &Answer{Error: &Error{Message: err.Error(), Invalid: true}}
	}
	if out == nil {
		return
	}
	b, err := json.Marshal(out)
	if err != nil {
		fail(fmt.Errorf("what the script returned cannot be sent: %w", err))
	}
	hostOutput(unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b)))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// read reads all of what a function of the host gives.
func read(from func(unsafe.Pointer, uint32) uint32) []byte {
	b := make([]byte, from(nil, 0))
	from(unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b)))
	return b
}

func newContext(in *Input) *picloud.Context {
	e := event.Envelope{
		ID: in.Event.ID, Source: in.Event.Source, Type: in.Event.Type, Subject: in.Event.Subject, Time: in.Event.Time,
		ContentType: in.Event.ContentType,
	}
	body := in.BodyBase64
	switch {
	case in.Batch != nil:
		body = append(append([]byte(`{"items":`), in.Batch...), '}')
	case body == nil:
		body = []byte(in.Body)
	}
	c := picloud.NewContext(runtime{in.Deadline}, in.ExecutionID, in.Attempt, &e, body)
	c.SDKVersion = in.SDKVersion
	if q := in.Request; q != nil {
		c.Request = picloud.Request{
			Method: q.Method, Host: q.Host, Path: q.Path, Rest: q.Rest, Headers: http.Header(q.Headers), Query: q.Query,
			Params: q.Params, Body: body,
		}
	}
	return c
}

// newAnswer writes down what Handle returned.
func newAnswer(value any, err error) (*Answer, error) {
	if err != nil {
		f := picloud.Failed(err)
		return &Answer{Error: &Error{Message: f.Message, RetryAfterMS: f.RetryAfter.Milliseconds(), Fatal: f.Fatal}}, nil
	}
	switch v := value.(type) {
	case nil:
		return nil, nil
	case *picloud.Response:
		if v == nil {
			return nil, nil
		}
		return newResponse(*v)
	case picloud.Response:
		return newResponse(v)
	case *picloud.BatchResult:
		if v == nil {
			return nil, nil
		}
		return newResult(v)
	case picloud.BatchResult:
		return newResult(&v)
	}
	b, err := json.Marshal(value)
	return &Answer{Body: b}, err
}

func newResponse(v picloud.Response) (a *Answer, err error) {
	a = &Answer{Status: v.Status, Headers: make(map[string]Values, len(v.Headers))}
	for name, values := range v.Headers {
		a.Headers[name] = values
	}
	switch b := v.Body.(type) {
	case nil:
	case string:
		a.Text = &b
	case []byte:
		a.Base64 = &b
	default:
		a.Body, err = json.Marshal(b)
	}
	return a, err
}

func newResult(v *picloud.BatchResult) (*Answer, error) {
	b, err := picloud.EncodeBatchResult(v)
	if err != nil {
		return nil, err
	}
	var r event.BatchResult
	err = json.Unmarshal(b, &r)
	return &Answer{Failures: &r.Failures}, err
}

// runtime is the platform as a module reaches it.
type runtime struct{ deadline time.Time }

var levels = map[string]uint32{"trace": 0, "debug": 1, "info": 2, "warn": 3, "error": 4}

// Log is part of picloud.Runtime.
func (runtime) Log(level, message string, data []any) {
	var b []byte
	var err error
	switch len(data) {
	case 0:
	case 1:
		b, err = json.Marshal(data[0])
	default:
		b, err = json.Marshal(data)
	}
	if err != nil {
		b, _ = json.Marshal("not logged: " + err.Error()) // a text has a form
	}
	hostLog(levels[level], unsafe.Pointer(unsafe.StringData(message)), uint32(len(message)), unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b)))
}

// Call is part of picloud.Runtime.
func (runtime) Call(service, method string, args []byte) ([]byte, error) {
	refused := hostCall(unsafe.Pointer(unsafe.StringData(service)), uint32(len(service)),
		unsafe.Pointer(unsafe.StringData(method)), uint32(len(method)), unsafe.Pointer(unsafe.SliceData(args)), uint32(len(args)))
	b := read(hostResult)
	if refused == 0 {
		return b, nil
	}
	var r Refusal
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read the host's refusal: %w", err)
	}
	f := fault.New(fault.Kind(r.Code), fault.Script, "%s", r.Message)
	f.RetryAfter = time.Duration(r.RetryAfterMS) * time.Millisecond
	return nil, f
}

// JSON is part of picloud.Runtime.
func (runtime) JSON(v any) ([]byte, error) { return json.Marshal(v) }

// Done is part of picloud.Runtime. A module ends with its run, so there is nothing to be told.
func (runtime) Done() <-chan struct{} { return nil }

// Deadline is part of picloud.Limited.
func (r runtime) Deadline() (time.Time, bool) { return r.deadline, !r.deadline.IsZero() }
