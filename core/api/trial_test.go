package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// Try is an engine for drafts that does what their first words say.
func (s *server) Try(
	ctx context.Context, _ string, b engine.Bundle, _ time.Duration, r *engine.Request, out engine.Reply,
) (loaded engine.Loaded, took time.Duration, err error) {
	if loaded, err = check(b); err != nil {
		return loaded, 0, err
	}
	took = 1500 * time.Microsecond
	switch text := string(b.Files[0].Data); {
	case strings.HasPrefix(text, "fail"):
		return loaded, took, &fault.Fault{Kind: fault.ScriptError, Origin: fault.Script, Message: "no", Detail: "line 3", RetryAfter: time.Second}
	case strings.HasPrefix(text, "ask"):
		for err == nil {
			_, err = r.Call(ctx, "queue", "send", []byte(`{"queue":"q","messages":[{},{}]}`))
		}
		return loaded, took, err
	case strings.HasPrefix(text, "absent"):
		return loaded, 0, fault.New(fault.Unavailable, fault.Platform, "there is no engine")
	}
	r.Log([]engine.Log{{Level: "info", Message: "hi"}})
	if err := out.Head(engine.Head{Status: 201}); err != nil {
		return loaded, took, err
	}
	_, err = fmt.Fprintf(out, "%s %d", r.Body, b.Limits.BodyBytes)
	return loaded, took, err
}

func TestTry(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.app(t, "shop")
	s.want(t, 200, "PATCH", "/api/v1/apps/shop/scripts/hello", object{"limits": object{"answer_bytes": 5}}, nil)
	try := func(source, script, body string) (out api.Trial) {
		s.want(t, 200, "POST", "/api/v1/apps/shop/try", object{
			"files": []object{{"name": "draft.go", "content": source}}, "script": script, "request": object{"body": body},
		}, &out)
		return out
	}
	before := s.count(t, "SELECT version FROM config")
	if out := try("answer", "", "body"); out.Status != 201 || out.Body != "body 6291456" || len(out.Logs) != 1 || out.Error != nil || out.DurationMS != 1.5 {
		t.Errorf("%+v", out)
	}
	if out := try("answer", "hello", "body"); out.Error == nil || out.Error.Message != "the answer has more than 5 bytes" {
		t.Errorf("under the limits of the script: %+v", out)
	}
	if out := try("fail", "", ""); out.Error == nil || *out.Error != (api.TrialError{Kind: "script_error", Message: "no", Detail: "line 3", RetryAfterMS: 1000}) {
		t.Errorf("%+v", out.Error)
	}
	if out := try("ask", "", ""); len(out.Calls) != 1000 || out.Calls[7].Service != "queue.send" || out.Error == nil || out.Error.Kind != "limit_exceeded" {
		t.Errorf("%d calls, %+v", len(out.Calls), out.Error)
	}
	draft := func(source string) object {
		return object{"files": []object{{"name": "draft.go", "content": source}}}
	}
	if p := s.problem(t, 422, "POST", "/api/v1/apps/shop/try", draft("a syntax error")); p.Errors[0].Location != "draft.go:3:7" {
		t.Errorf("%+v", p)
	}
	s.problem(t, 503, "POST", "/api/v1/apps/shop/try", draft("absent"))
	if now := s.count(t, "SELECT version FROM config"); now != before {
		t.Error("something was stored")
	}
}
