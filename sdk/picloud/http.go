package picloud

import (
	"encoding/json"
	"fmt"
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
	return h.ask("request", r)
}

// Get fetches a URL.
func (h *HTTP) Get(url string) (*HTTPResponse, error) { return h.ask("get", &HTTPRequest{URL: url}) }

// Head asks for the headers of a URL.
func (h *HTTP) Head(url string) (*HTTPResponse, error) { return h.ask("head", &HTTPRequest{URL: url}) }

// Delete asks to delete what a URL names.
func (h *HTTP) Delete(url string) (*HTTPResponse, error) {
	return h.ask("delete", &HTTPRequest{URL: url})
}

// Post sends a body, see HTTPRequest.Body.
func (h *HTTP) Post(url string, body any) (*HTTPResponse, error) {
	return h.ask("post", &HTTPRequest{URL: url, Body: body})
}

// Put sends a body, see HTTPRequest.Body.
func (h *HTTP) Put(url string, body any) (*HTTPResponse, error) {
	return h.ask("put", &HTTPRequest{URL: url, Body: body})
}

// Patch sends a body, see HTTPRequest.Body.
func (h *HTTP) Patch(url string, body any) (*HTTPResponse, error) {
	return h.ask("patch", &HTTPRequest{URL: url, Body: body})
}

// httpArgs is a request as the service takes it. A body that is a text is sent as it is, any other as JSON.
type httpArgs struct {
	Method     string          `json:"method,omitempty"`
	URL        string          `json:"url,omitempty"`
	Headers    Headers         `json:"headers,omitempty"`
	Body       json.RawMessage `json:"body,omitempty"`
	BodyBase64 []byte          `json:"body_base64,omitempty"`
	TimeoutMS  int64           `json:"timeout_ms,omitempty"`
}

func (h *HTTP) ask(method string, r *HTTPRequest) (*HTTPResponse, error) {
	args := httpArgs{Method: r.Method, URL: r.URL, Headers: r.Headers, TimeoutMS: milliseconds(r.Timeout)}
	if err := args.setBody(h.runtime, r.Body); err != nil {
		return nil, &Error{Code: InvalidArgument, Message: "the body cannot be sent: " + err.Error()}
	}
	var answer httpAnswer
	if err := call(h.runtime, "http", method, args, &answer); err != nil {
		return nil, err
	}
	return answer.response(), nil
}

// httpAnswer is a response as services give it.
type httpAnswer struct {
	Status     int     `json:"status"`
	Headers    Headers `json:"headers"`
	Body       string  `json:"body"`
	BodyBase64 []byte  `json:"body_base64"`
}

func (a *httpAnswer) response() *HTTPResponse {
	out := &HTTPResponse{Status: a.Status, Headers: a.Headers, Body: a.BodyBase64}
	if out.Body == nil {
		out.Body = []byte(a.Body)
	}
	return out
}

func (a *httpArgs) setBody(r Runtime, body any) (err error) {
	switch body := body.(type) {
	case nil:
		return nil
	case []byte:
		a.BodyBase64 = body
		return nil
	case string:
		if utf8.ValidString(body) {
			a.Body, err = json.Marshal(body)
			return err
		}
		a.BodyBase64 = []byte(body)
		return nil
	}
	if a.Body, err = r.JSON(body); err != nil || a.Body[0] != '"' && a.Body[0] != 'n' {
		return err
	}
	// A text or null in JSON would travel as a text that is sent without quotes, or as nothing.
	if a.Headers = a.Headers.Clone(); a.Headers == nil {
		a.Headers = Headers{}
	}
	if a.Headers.Get("Content-Type") == "" {
		a.Headers.Set("Content-Type", "application/json")
	}
	a.Body, err = json.Marshal(string(a.Body))
	return err
}
