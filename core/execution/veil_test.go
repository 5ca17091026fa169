package execution

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// knowing is a service that has a run know a secret.
type knowing string

func (k knowing) Call(_ context.Context, run service.Run, _, _ string, _ []byte) ([]byte, error) {
	value, _ := json.Marshal(string(k))
	return value, run.Veil.Add(value)
}

const canary = `c4n4ry-that "nobody" finds/+`

// forms are ways in which a script may write the canary.
func forms() []string {
	return []string{
		canary, fmt.Sprintf("%q", canary), url.QueryEscape(canary), url.PathEscape(canary),
		base64.StdEncoding.EncodeToString([]byte(canary)), base64.URLEncoding.EncodeToString([]byte("user:" + canary)),
	}
}

// leaks reports whether a part of the canary is in what was left.
func leaks(b []byte) bool {
	text := string(b)
	for _, part := range []string{
		"c4n4ry", "that", "nobody", "finds",
		base64.StdEncoding.EncodeToString([]byte(canary))[8:16], base64.RawURLEncoding.EncodeToString([]byte("user:" + canary))[12:20],
	} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// What a run has learnt is in nothing that is kept or told of it, however it is written: not in its log, also before it
// was learnt, its error, the recorded part of its answer, nor in what is said of a batch.
func TestNothingIsLeftOfSecrets(t *testing.T) {
	t.Parallel()
	text := strings.Join(forms(), " ")
	data, _ := json.Marshal(map[string]any{"text": text, canary: canary})
	log := []engine.Log{
		{Level: "info", Message: text, Data: data},
		{Level: "info", Message: strings.Repeat("x", logMessage-5) + canary},
	}
	run := func(answer string, head engine.Head, err error) engineFunc {
		return func(ctx context.Context, _ bool, r *engine.Request, out engine.Reply) error {
			r.Log(log[:1])
			if _, err := r.Call(ctx, "secrets", "get", nil); err != nil {
				t.Error(err)
			}
			r.Log(log)
			_ = out.Head(head)
			_, _ = out.Write([]byte(answer))
			return err
		}
	}
	failed := fault.New(fault.ScriptError, fault.Script, "no luck with %s", text)
	failed.Detail, failed.RetryAfter = "at "+text, time.Second

	check := func(what string, res Result, err bool) {
		t.Helper()
		if (res.Fault != nil) != err || leaks(res.Logs) || leaks(res.Response) || !strings.Contains(string(res.Logs), "[secret]") || !json.Valid(res.Logs) {
			t.Errorf("%s: %+v\n%s\n%s", what, res.Fault, res.Logs, res.Response)
		}
		if res.Fault != nil && (leaks([]byte(res.Fault.Message)) || leaks([]byte(res.Fault.Detail))) {
			t.Errorf("%s: %+v", what, res.Fault)
		}
		if res.Answer != nil && leaks([]byte(res.Answer.Error)) {
			t.Errorf("%s: %+v", what, res.Answer)
		}
	}
	r, e, _ := setup(run("answer", engine.Head{Status: 200}, nil))
	r.services = knowing(canary)
	check("a success", r.Run(t.Context(), e), false)

	r, e, _ = setup(run(strings.Repeat("x", collected-9)+canary, engine.Head{Status: 200}, failed))
	r.services = knowing(canary)
	e.KeepAnswer = true
	res := r.Run(t.Context(), e)
	check("a failure", res, true)
	if res.Fault.RetryAfter != time.Second || !strings.HasPrefix(res.Fault.Message, "no luck with [secret]") || len(res.Response) > collected {
		t.Errorf("%+v", res.Fault)
	}

	// The caller of a sync run has its answer as it is, but an error as everybody.
	for _, err := range []error{nil, failed} {
		r, e, in := setup(run(canary, engine.Head{Status: 200}, err))
		r.services = knowing(canary)
		e.ReplyTo = uuid.New()
		w := in.Register(e.ReplyTo)
		done := make(chan Result, 1)
		go func() { done <- r.Run(t.Context(), e) }()
		var told []byte
		var last *fault.Fault
		for end := false; !end; {
			p, err := w.Next(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			told = append(told, p.Data...)
			end, last = p.End || p.Fault != nil, p.Fault
		}
		if string(told) != canary && err == nil {
			t.Errorf("the caller has %q", told)
		}
		if (last != nil) != (err != nil) || last != nil && leaks([]byte(last.Message+last.Detail)) {
			t.Errorf("the caller is told %v", last)
		}
		check("sync", <-done, err != nil)
		w.Close()
	}

	// A batch.
	result, _ := json.Marshal(event.BatchResult{Failures: []event.BatchFailure{{ID: e.ID.String(), Error: text}}})
	batch := func(answer string, err error) {
		r, first, _ := setup(run(answer, engine.Head{Status: 200, Headers: []event.Header{{Name: "Content-Type", Value: event.BatchContentType}}}, err))
		r.services = knowing(canary)
		env, _ := (&event.Envelope{ID: "e"}).Marshal()
		first.ID, first.Envelope = e.ID, env
		second := *first
		second.ID, second.ReplyTo = uuid.New(), uuid.Nil
		for i, res := range r.RunBatch(t.Context(), []*outbox.Entry{first, &second}) {
			if i == 0 {
				check("batch", res, true)
			} else if res.Fault != nil && leaks([]byte(res.Fault.Message)) {
				t.Errorf("%+v", res.Fault)
			}
		}
	}
	batch(string(result), nil)
	batch(string(result)+canary, nil)
	batch(canary, failed)
}
