// Package client calls the control API. It is as thin as it can be: one request a call, no retries, and errors that a
// person can read.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/picloud/picloud/core/api"
)

// Client is one server and the token to use there. Safe for concurrent use.
type Client struct {
	URL   string // of the admin listener, without a path
	Token string
}

// Error is what the server answers to a request that it refuses.
type Error struct{ api.Problem }

// Error is one line: what is wrong, and where. The places of errors in a source are not in it.
func (e *Error) Error() string {
	text := e.Detail
	if text == "" {
		text = strings.ToLower(e.Title)
	}
	for _, detail := range e.Errors {
		if detail.Location != "" && detail.Message != text {
			text += fmt.Sprintf("; %s: %s", detail.Location, detail.Message)
		}
	}
	if e.ExecutionID != "" {
		text += " (execution " + e.ExecutionID + ")"
	}
	return text
}

// Is reports whether the server answered with a problem of this kind, such as not_found.
func Is(err error, kind string) bool {
	failed := (*Error)(nil)
	return errors.As(err, &failed) && strings.HasSuffix(failed.Type, ":"+kind)
}

// InPath reports whether the server refused what stands in the path, such as an id that is none.
func InPath(err error) bool {
	failed := (*Error)(nil)
	return errors.As(err, &failed) && len(failed.Errors) > 0 && strings.HasPrefix(failed.Errors[0].Location, "path.")
}

// Path joins the segments of a path below /api/v1, each escaped: dots as well where they would lead elsewhere.
func Path(segments ...string) string {
	var path strings.Builder
	path.WriteString("/api/v1")
	for _, segment := range segments {
		escaped := url.PathEscape(segment)
		if segment == "." || segment == ".." {
			escaped = strings.ReplaceAll(segment, ".", "%2E")
		}
		path.WriteString("/" + escaped)
	}
	return path.String()
}

// Do sends a request, with in as JSON unless it is nil, and decodes the answer into out unless that is nil. The error is
// an *Error where the server refused.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.Send(ctx, method, path, nil, in, out)
}

// Send is Do with headers.
func (c *Client) Send(ctx context.Context, method, path string, headers map[string]string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+path, body)
	if err != nil {
		return fmt.Errorf("server address %q: %w", c.URL, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return c.explain(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.URL, err)
	}
	if res.StatusCode >= 300 {
		return c.refused(res, data)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s does not answer like a PiCloud server: %w", c.URL, err)
	}
	return nil
}

// explain says what a person can do about a connection that failed.
func (c *Client) explain(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens on %s: start `picloud dev`, or name another server with --url", c.URL)
	case errors.As(err, &op):
		return fmt.Errorf("cannot reach %s: %w", c.URL, op)
	}
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err // the method and the address say no more
	}
	return fmt.Errorf("cannot reach %s: %w", c.URL, err)
}

func (c *Client) refused(res *http.Response, data []byte) error {
	e := &Error{}
	if err := json.Unmarshal(data, &e.Problem); err != nil || e.Type == "" {
		return fmt.Errorf("%s answers %s, which no PiCloud server does: check --url", c.URL, res.Status)
	}
	if res.StatusCode == http.StatusUnauthorized {
		return fmt.Errorf("%s does not accept the token: give the right one with --token or PICLOUD_TOKEN", c.URL)
	}
	return e
}
