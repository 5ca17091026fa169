package service

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbound"
	"github.com/picloud/picloud/sdk/fault"
)

// Web makes requests of scripts to the world outside.
type Web interface {
	// Do makes a request for app, whose answer has to be closed. Its errors are faults, or the cause of ctx's end.
	Do(ctx context.Context, app uuid.UUID, r *outbound.Request) (*outbound.Response, error)
}

// httpMethod makes requests of a method.
func httpMethod(name string) func(*call, context.Context, []byte) (any, error) {
	return func(c *call, ctx context.Context, args []byte) (any, error) {
		return c.httpRequest(ctx, name, args)
	}
}

// httpRequest makes one request. method is that of the call, empty where the arguments say it.
func (c *call) httpRequest(ctx context.Context, method string, args []byte) (any, error) {
	var in struct {
		Method     string                     `json:"method"`
		URL        string                     `json:"url"`
		Headers    map[string]json.RawMessage `json:"headers"`
		Body       json.RawMessage            `json:"body"`
		BodyBase64 []byte                     `json:"body_base64"`
		TimeoutMS  int64                      `json:"timeout_ms"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	r := &outbound.Request{Method: method, URL: in.URL, Headers: http.Header{}}
	switch {
	case method == "" && in.Method == "":
		r.Method = http.MethodGet
	case method == "":
		r.Method = in.Method
	case in.Method != "":
		return nil, invalid("method: the call says it already")
	}
	if err := addHeaders(r.Headers, in.Headers); err != nil {
		return nil, err
	}
	r.Timeout = time.Duration(max(-1, min(in.TimeoutMS, outbound.MaxTimeout.Milliseconds()+1))) * time.Millisecond
	var err error
	if r.Body, err = bodyOf(in.Body, in.BodyBase64, r.Headers); err != nil {
		return nil, err
	}
	out, err := c.web.Do(ctx, c.run.Entry.App, r)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	return response(out.Status, out.Headers, out.Body)
}

// response is an answer that has come, as scripts see it.
func response(status int, headers http.Header, body []byte) (json.RawMessage, error) {
	answer := struct {
		Status     int         `json:"status"`
		Headers    http.Header `json:"headers"`
		Body       *string     `json:"body,omitzero"`
		BodyBase64 []byte      `json:"body_base64,omitempty"`
	}{Status: status, Headers: headers}
	if text := string(body); plainText(text) {
		answer.Body = &text
	} else {
		answer.BodyBase64 = body
	}
	return encode(answer)
}

// addHeaders adds what a script gives as headers: texts, or lists of them.
func addHeaders(to http.Header, given map[string]json.RawMessage) error {
	for name, raw := range given {
		values, err := texts(raw)
		if err != nil {
			return invalid("headers: %q is neither a text nor a list of texts", fault.Cut(name, 100))
		}
		for _, v := range values {
			to.Add(name, v)
		}
	}
	return nil
}

// texts reads a text or a list of them.
func texts(raw json.RawMessage) (list []string, err error) {
	if len(raw) > 0 && raw[0] == '"' {
		list = []string{""}
		return list, json.Unmarshal(raw, &list[0])
	}
	return list, json.Unmarshal(raw, &list)
}

// bodyOf is what a request sends: a text or bytes as they are, any other value as JSON. It names the type in headers
// where they do not.
func bodyOf(value json.RawMessage, bytes []byte, headers http.Header) ([]byte, error) {
	if string(value) == "null" {
		value = nil
	}
	kind := "application/octet-stream"
	body := bytes
	switch {
	case value == nil && bytes == nil:
		return nil, nil
	case value != nil && bytes != nil:
		return nil, invalid("body and body_base64 exclude each other")
	case value == nil:
	case value[0] == '"':
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			return nil, invalid("body: %v", err)
		}
		kind, body = "text/plain; charset=utf-8", []byte(text)
	default:
		kind, body = "application/json", value
	}
	if len(headers.Values("Content-Type")) == 0 {
		headers.Set("Content-Type", kind)
	}
	return body, nil
}

// maxText is how large a body may be as a text in JSON, so that the answer can travel.
const maxText = 14 << 20

// plainText reports whether a body travels as a text: it is UTF-8, and not made of what JSON has to spell out.
func plainText(body string) bool {
	if !utf8.ValidString(body) {
		return false
	}
	size := len(body)
	for i := range len(body) {
		switch c := body[i]; {
		case c == '"' || c == '\\':
			size++
		case c < ' ' || c == 0xe2: // perhaps a separator of lines, which is spelled out too
			size += 5
		}
	}
	return size <= maxText
}
