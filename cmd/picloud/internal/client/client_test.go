package client

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"a problem", 409, `{"type":"urn:picloud:problem:conflict","detail":"the slug is taken"}`, "the slug is taken"},
		{
			"places", 422, `{"type":"urn:picloud:problem:invalid","detail":"validation failed","errors":[{"location":"body.slug","message":"too long"}]}`,
			"validation failed; body.slug: too long",
		},
		{
			"a place that says the same", 422,
			`{"type":"urn:picloud:problem:invalid","detail":"too long","errors":[{"location":"body.slug","message":"too long"}]}`, "too long",
		},
		{"no detail", 500, `{"type":"urn:picloud:problem:internal","title":"Internal error"}`, "internal error"},
		{
			"an execution", 502, `{"type":"urn:picloud:problem:script_failed","detail":"no luck","execution_id":"0192"}`,
			"no luck (execution 0192)",
		},
		{"a wrong token", 401, `{"type":"urn:picloud:problem:unauthenticated"}`, "does not accept the token"},
		{"another server", 502, `<html>Bad gateway</html>`, "answers 502 Bad Gateway, which no PiCloud server does: check --url"},
		{"another server, glad to help", 200, `<html>Welcome</html>`, "does not answer like a PiCloud server"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer key" {
					t.Errorf("Authorization: %s", r.Header.Get("Authorization"))
				}
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(test.body))
			}))
			defer server.Close()
			c := &Client{URL: server.URL + "/", Token: "key"}
			err := c.Do(t.Context(), http.MethodGet, Path("apps", "a/b"), nil, nil, &struct{}{})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error = %v, want one line with %q", err, test.want)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := (&Client{URL: "http://127.0.0.1:1"}).Do(ctx, http.MethodGet, Path("apps"), nil, nil, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}

func TestPath(t *testing.T) {
	t.Parallel()
	if got := Path("apps", "a/b", "*.x"); got != "/api/v1/apps/a%2Fb/%2A.x" {
		t.Errorf("path = %s", got)
	}
	if got := Path("apps", "a", "scripts", ".."); got != "/api/v1/apps/a/scripts/%2E%2E" { // else it is the app
		t.Error(got)
	}
}
