package service_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbound"
	"github.com/picloud/picloud/sdk/fault"
)

// web answers requests as a test says.
type web struct {
	app    uuid.UUID
	asked  *outbound.Request
	answer outbound.Response
	err    error
}

func (w *web) Do(_ context.Context, app uuid.UUID, r *outbound.Request) (*outbound.Response, error) {
	w.app, w.asked = app, r
	return &w.answer, w.err
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		call, args string
		method     string
		headers    http.Header
		body       string
		timeout    time.Duration
	}{
		{"http.request", `{"url":"http://x"}`, "GET", http.Header{}, "", 0},
		{"http.request", `{"method":"PROPFIND","url":"http://x","timeout_ms":1500}`, "PROPFIND", http.Header{}, "", 1500 * time.Millisecond},
		{"http.get", `{"url":"http://x","headers":{"x-a":"1","X-B":["2","3"],"X-C":[]}}`, "GET", http.Header{"X-A": {"1"}, "X-B": {"2", "3"}}, "", 0},
		{"http.head", `{"url":"http://x"}`, "HEAD", http.Header{}, "", 0},
		{"http.delete", `{"url":"http://x","body":null}`, "DELETE", http.Header{}, "", 0},
		{"http.post", `{"url":"http://x","body":"te\u00e9xt"}`, "POST", http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, "te\u00e9xt", 0},
		{"http.put", `{"url":"http://x","body":{"a":[1, null]}}`, "PUT", http.Header{"Content-Type": {"application/json"}}, `{"a":[1, null]}`, 0},
		{"http.patch", `{"url":"http://x","body":false,"headers":{"content-type":"x/y"}}`, "PATCH", http.Header{"Content-Type": {"x/y"}}, `false`, 0},
		{"http.post", `{"url":"http://x","body_base64":"AP8="}`, "POST", http.Header{"Content-Type": {"application/octet-stream"}}, "\x00\xff", 0},
		{"http.get", `{"url":"http://x","timeout_ms":9223372036854775807}`, "GET", http.Header{}, "", outbound.MaxTimeout + time.Millisecond},
		{"http.get", `{"url":"http://x","timeout_ms":-9223372036854775808}`, "GET", http.Header{}, "", -time.Millisecond},
	} {
		b := setup(t)
		b.web.answer.Status = 204
		answer, err := b.ask(t, x.call, x.args)
		r := b.web.asked
		if err != nil || r == nil || b.web.app != b.app.ID {
			t.Errorf("%s %s: %v, %+v", x.call, x.args, err, r)
			continue
		}
		if r.Method != x.method || r.URL != "http://x" || fmt.Sprint(r.Headers) != fmt.Sprint(x.headers) || string(r.Body) != x.body || r.Timeout != x.timeout {
			t.Errorf("%s %s: %+v", x.call, x.args, r)
		}
		if fmt.Sprint(answer) != "map[body: headers:map[] status:204]" {
			t.Errorf("%v", answer)
		}
	}
}

func TestHTTPAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.web.answer = outbound.Response{Status: 500, Headers: http.Header{"Set-Cookie": {"a", "b"}}, Body: []byte("<h\u00e9> & \u2028")}
	for body, want := range map[string]string{
		"<h\u00e9> & \u2028":               "<h\u00e9> & \u2028 <nil>",
		"\xff\x00":                         "<nil> /wA=",
		"":                                 " <nil>",
		strings.Repeat("\x01", 14<<20/6+1): "<nil> long",
	} {
		b.web.answer.Body = []byte(body)
		answer, err := b.ask(t, "http.get", `{"url":"http://x"}`)
		if err != nil {
			t.Fatal(err)
		}
		if text, _ := answer["body_base64"].(string); len(text) > 1000 {
			answer["body_base64"] = "long"
		}
		if got := fmt.Sprint(answer["body"], " ", answer["body_base64"]); got != want || answer["status"] != 500.0 ||
			fmt.Sprint(answer["headers"]) != "map[Set-Cookie:[a b]]" {
			t.Errorf("%.30q: %.100s", body, got)
		}
	}
}

func TestHTTPRefusals(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		`{"url":1}`, `{"uri":"x"}`, `{"method":"GET","url":"http://x"}`, `{"url":"http://x","headers":{"a":1}}`,
		`{"url":"http://x","headers":{"a":["b",1]}}`, `{"url":"http://x","headers":["a"]}`, `{"url":"http://x","body":1,"body_base64":"AA=="}`,
		`{"url":"http://x","body_base64":"?"}`, `{"url":"http://x","app":"y"}`,
	} {
		b := setup(t)
		b.refused(t, "http.post", args, fault.Invalid, "")
		if b.web.asked != nil {
			t.Errorf("%s was asked for", args)
		}
	}
	b := setup(t)
	b.web.err = fault.New(fault.Unavailable, fault.Script, "no")
	b.refused(t, "http.get", `{"url":"http://x"}`, fault.Unavailable, "no")
}
