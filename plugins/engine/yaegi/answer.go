package yaegi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

// bodyLimit bounds an answer.
const bodyLimit = 6 << 20

// answer is what a run is answered with.
type answer struct {
	head engine.Head
	body []byte
}

var jsonHeader = []event.Header{{Name: "Content-Type", Value: "application/json"}}

// newAnswer makes an answer of what Handle returned, by the rules in the doc comment of sdk/picloud.
func newAnswer(value any) (answer, error) {
	switch v := value.(type) {
	case nil:
		return answer{head: engine.Head{Status: http.StatusNoContent}}, nil
	case picloud.Response:
		return fromResponse(&v)
	case *picloud.Response:
		if v == nil {
			return answer{head: engine.Head{Status: http.StatusNoContent}}, nil
		}
		return fromResponse(v)
	}
	body, err := encode(value)
	return answer{engine.Head{Status: http.StatusOK, Headers: jsonHeader}, body}, err
}

func fromResponse(r *picloud.Response) (answer, error) {
	a := answer{head: engine.Head{Status: r.Status}}
	if a.head.Status == 0 {
		a.head.Status = http.StatusOK
	}
	if a.head.Status < 200 || a.head.Status > 599 {
		return a, fault.New(fault.InvalidResponse, fault.Script, "the status %d is not one from 200 to 599", r.Status)
	}
	for name, values := range r.Headers {
		for _, v := range values {
			a.head.Headers = append(a.head.Headers, event.Header{Name: name, Value: v})
		}
	}
	kind := "application/json"
	var err error
	switch b := r.Body.(type) {
	case nil:
		kind = ""
	case []byte:
		a.body, kind = b, "application/octet-stream"
	case string:
		a.body, kind = []byte(b), "text/plain; charset=utf-8"
	default:
		if a.body, err = encode(b); err != nil {
			return a, err
		}
	}
	if kind != "" && r.Headers.Get("Content-Type") == "" {
		a.head.Headers = append(a.head.Headers, event.Header{Name: "Content-Type", Value: kind})
	}
	if len(a.body) > bodyLimit {
		return a, tooLarge(len(a.body))
	}
	return a, nil
}

// encode writes a value as JSON. A value that JSON has no form for is the script's mistake.
func encode(value any) ([]byte, error) {
	b, err := json.Marshal(value)
	var kind *json.UnsupportedTypeError
	var number *json.UnsupportedValueError
	switch {
	case errors.As(err, &kind):
		return nil, invalid("a %s cannot be sent as JSON", kind.Type)
	case errors.As(err, &number):
		return nil, invalid("the value %s cannot be sent as JSON", number.Str)
	case err != nil:
		return nil, invalid("it cannot be sent as JSON: %v", err)
	case len(b) > bodyLimit:
		return nil, tooLarge(len(b))
	}
	return b, nil
}

func invalid(format string, args ...any) error {
	return fault.New(fault.InvalidResponse, fault.Script, "what Handle returned: %s", fmt.Sprintf(format, args...))
}

func tooLarge(n int) error {
	return fault.New(fault.Limit, fault.Script, "the answer has %d bytes, more than %d", n, bodyLimit)
}
