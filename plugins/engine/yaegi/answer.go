package yaegi

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"reflect"
	"slices"

	"golang.org/x/net/http/httpguts"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/picloud"
)

// bodyLimit bounds an answer where the bundle's limits do not say.
const bodyLimit = 6 << 20

// answer is what a run is answered with.
type answer struct {
	head engine.Head
	body []byte
}

var jsonHeader = []event.Header{{Name: "Content-Type", Value: "application/json"}}

// newAnswer makes an answer of what Handle returned, by the rules in the doc comment of sdk/picloud. limit bounds its
// body, in bytes.
func newAnswer(value any, limit int) (a answer, err error) {
	switch v := value.(type) {
	case nil:
		a.head.Status = http.StatusNoContent
	case picloud.Response:
		a, err = fromResponse(&v)
	case *picloud.Response:
		if v == nil {
			a.head.Status = http.StatusNoContent
			break
		}
		a, err = fromResponse(v)
	case picloud.BatchResult:
		a, err = fromBatch(&v)
	case *picloud.BatchResult:
		if v == nil {
			a.head.Status = http.StatusNoContent
			break
		}
		a, err = fromBatch(v)
	default:
		a.head = engine.Head{Status: http.StatusOK, Headers: jsonHeader}
		a.body, err = encode(value)
	}
	if err == nil && len(a.body) > limit {
		return answer{}, fault.New(fault.Limit, fault.Script, "the answer has %d bytes, more than %d", len(a.body), limit)
	}
	return a, err
}

var batchHeader = []event.Header{{Name: "Content-Type", Value: event.BatchContentType}}

func fromBatch(r *picloud.BatchResult) (a answer, err error) {
	a.head = engine.Head{Status: http.StatusOK, Headers: batchHeader}
	a.body, err = picloud.EncodeBatchResult(r)
	return a, err
}

func fromResponse(r *picloud.Response) (a answer, err error) {
	if a.head.Status = r.Status; r.Status == 0 {
		a.head.Status = http.StatusOK
	}
	if a.head.Status < 200 || a.head.Status > 599 {
		return a, invalid("the status %d is not one from 200 to 599", r.Status)
	}
	typed := false
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		canonical := http.CanonicalHeaderKey(name)
		for _, v := range r.Headers[name] {
			if err := checkHeader(canonical, v); err != nil {
				return a, err
			}
			a.head.Headers = append(a.head.Headers, event.Header{Name: canonical, Value: v})
			typed = typed || canonical == "Content-Type"
		}
	}
	kind := ""
	switch b := r.Body.(type) {
	case nil:
	case []byte:
		a.body, kind = b, "application/octet-stream"
	case string:
		a.body, kind = []byte(b), "text/plain; charset=utf-8"
	default:
		kind = "application/json"
		if a.body, err = encode(b); err != nil {
			return a, err
		}
	}
	if len(a.body) > 0 && (a.head.Status == http.StatusNoContent || a.head.Status == http.StatusNotModified) {
		return a, invalid("an answer with status %d has no body", a.head.Status)
	}
	if kind != "" && !typed {
		a.head.Headers = append(a.head.Headers, event.Header{Name: "Content-Type", Value: kind})
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

// encode writes an answer as JSON. A value that JSON has no form for is the script's mistake.
func encode(value any) ([]byte, error) {
	b, err := marshal(value)
	if err != nil {
		return nil, invalid("%v", err)
	}
	return b, nil
}

// marshal writes a script's value as JSON. The error says which part of it has no form there.
func marshal(value any) ([]byte, error) {
	b, err := json.Marshal(plain(value))
	if err == nil {
		return b, nil
	}
	budget := 10_000
	if path, what := unsendable(reflect.ValueOf(plain(value)), &budget); what != "" {
		if path != "" {
			what += " at " + path
		}
		return nil, fmt.Errorf("JSON has no form for %s", what)
	}
	return nil, err
}

func invalid(format string, args ...any) error {
	return fault.New(fault.InvalidResponse, fault.Script, "what Handle returned cannot be sent: %s", fmt.Sprintf(format, args...))
}

// unsendable finds the first part of a value that JSON has no form for: where it is, in the form of a Go expression, and
// what. Both are empty if there is none among the first that it looks at: a value may be large, or hold itself. budget is
// how many.
func unsendable(v reflect.Value, budget *int) (path, what string) {
	if *budget--; *budget < 0 {
		return "", ""
	}
	switch v.Kind() {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return "", "a " + v.Type().String()
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return "", fmt.Sprint("the number ", f)
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return unsendable(v.Elem(), budget)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if path, what := unsendable(v.Index(i), budget); what != "" {
				return fmt.Sprintf("[%d]%s", i, path), what
			}
		}
	case reflect.Map:
		for k, e := range v.Seq2() {
			if path, what := unsendable(e, budget); what != "" {
				return fmt.Sprintf("[%q]%s", fmt.Sprint(k), path), what
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || f.Tag.Get("json") == "-" {
				continue
			}
			if path, what := unsendable(v.Field(i), budget); what != "" {
				return "." + f.Name + path, what
			}
		}
	}
	return "", ""
}
