package picloud

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"
)

// HTTP makes requests to the world outside: Context.HTTP. It reaches public addresses at the ports 80 and 443, and what
// the instance allows besides.
type HTTP struct{ runtime Runtime }

// HTTPRequest is a request that a script makes.
type HTTPRequest struct {
	Method  string // empty: GET
	URL     string // http:// or https://, without a user
	Headers Headers
	// Body is sent as it is if it is a []byte or a string, else as JSON; nil: there is none. A Content-Type is set where
	// Headers has none.
	Body    any
	Timeout time.Duration // of everything together, redirects too; zero: 30 s; at most 5 min, and never longer than the run
}

// HTTPResponse is what came back, after up to 5 redirects.
type HTTPResponse struct {
	Status  int
	Headers Headers
	Body    []byte // up to 10 MiB, decompressed
}

// OK reports whether the status is one of success, from 200 to 299.
func (r *HTTPResponse) OK() bool { return r.Status >= 200 && r.Status <= 299 }

// Text returns the body as text.
func (r *HTTPResponse) Text() string { return string(r.Body) }

// JSON decodes the body into v.
func (r *HTTPResponse) JSON(v any) error {
	if err := json.Unmarshal(r.Body, v); err != nil {
		return fmt.Errorf("the body is not the JSON that is expected: %w", err)
	}
	return nil
}

// Do makes a request. An answer of any status is no error. Errors are *Error: InvalidArgument, Unavailable where the host
// cannot be reached or does not answer, "deadline" and "limit_exceeded" where the answer takes too long or is too large.
func (h *HTTP) Do(r *HTTPRequest) (*HTTPResponse, error) {
	if r == nil {
		return nil, &Error{Code: InvalidArgument, Message: "there is no request"}
	}
	args := struct {
		Method     string  `json:"method,omitempty"`
		URL        string  `json:"url"`
		Headers    Headers `json:"headers,omitempty"`
		Body       any     `json:"body,omitempty"`
		BodyBase64 []byte  `json:"body_base64,omitempty"`
		TimeoutMS  int64   `json:"timeout_ms,omitempty"`
	}{Method: r.Method, URL: r.URL, Headers: r.Headers, TimeoutMS: milliseconds(r.Timeout)}
	switch body := r.Body.(type) {
	case nil:
	case []byte:
		args.BodyBase64 = body
	case string:
		if args.Body = body; !utf8.ValidString(body) {
			args.Body, args.BodyBase64 = nil, []byte(body)
		}
	default:
		b, err := h.runtime.JSON(body)
		if err != nil {
			return nil, &Error{Code: InvalidArgument, Message: "the body cannot be sent: " + err.Error()}
		}
		args.Body = string(b)
		if args.Headers = r.Headers.Clone(); args.Headers == nil {
			args.Headers = Headers{}
		}
		if args.Headers.Get("Content-Type") == "" {
			args.Headers.Set("Content-Type", "application/json")
		}
	}
	var answer struct {
		Status     int     `json:"status"`
		Headers    Headers `json:"headers"`
		Body       string  `json:"body"`
		BodyBase64 []byte  `json:"body_base64"`
	}
	if err := call(h.runtime, "http", "request", args, &answer); err != nil {
		return nil, err
	}
	out := &HTTPResponse{Status: answer.Status, Headers: answer.Headers, Body: answer.BodyBase64}
	if out.Body == nil {
		out.Body = []byte(answer.Body)
	}
	return out, nil
}

// Get fetches a URL.
func (h *HTTP) Get(url string) (*HTTPResponse, error) {
	return h.Do(&HTTPRequest{URL: url})
}

// Head asks for the headers of a URL.
func (h *HTTP) Head(url string) (*HTTPResponse, error) {
	return h.Do(&HTTPRequest{Method: http.MethodHead, URL: url})
}

// Delete asks to delete what a URL names.
func (h *HTTP) Delete(url string) (*HTTPResponse, error) {
	return h.Do(&HTTPRequest{Method: http.MethodDelete, URL: url})
}

// Post sends a body, see HTTPRequest.Body.
func (h *HTTP) Post(url string, body any) (*HTTPResponse, error) {
	return h.Do(&HTTPRequest{Method: http.MethodPost, URL: url, Body: body})
}

// Put sends a body, see HTTPRequest.Body.
func (h *HTTP) Put(url string, body any) (*HTTPResponse, error) {
	return h.Do(&HTTPRequest{Method: http.MethodPut, URL: url, Body: body})
}

// Patch sends a body, see HTTPRequest.Body.
func (h *HTTP) Patch(url string, body any) (*HTTPResponse, error) {
	return h.Do(&HTTPRequest{Method: http.MethodPatch, URL: url, Body: body})
}
