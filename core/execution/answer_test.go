package execution

import (
	"bytes"
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

func TestKeptAnswers(t *testing.T) {
	t.Parallel()
	head := func(status int, headers ...event.Header) func(engine.Reply) error {
		return func(out engine.Reply) error { return out.Head(engine.Head{Status: status, Headers: headers}) }
	}
	body := func(status, bytesEach, times int) func(engine.Reply) error {
		return func(out engine.Reply) error {
			_ = out.Head(engine.Head{Status: status})
			for range times {
				if _, err := out.Write(bytes.Repeat([]byte("x"), bytesEach)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	failing := func(kind fault.Kind) func(engine.Reply) error {
		return func(out engine.Reply) error {
			_ = body(200, 10, 1)(out)
			return fault.New(kind, fault.Script, "on purpose")
		}
	}
	for name, c := range map[string]struct {
		run  func(engine.Reply) error
		kind string
		want int // status; zero: nothing is kept
		size int
	}{
		"an answer":         {body(201, 10, 3), "", 201, 30},
		"no body":           {head(204), "", 204, 0},
		"as large as may":   {body(200, 1<<10, 1<<10), "", 200, 1 << 20},
		"too large":         {body(200, 1<<10, 1<<10+1), TooLarge, 200, 0},
		"a failure":         {failing(fault.ScriptError), "script_error", 502, 0},
		"nothing started":   {failing(fault.Unavailable), "", 0, 0},
		"NUL in a header":   {head(200, event.Header{Name: "X", Value: "a\x00"}), "invalid_response", 502, 0},
		"no such status":    {head(99), "invalid_response", 502, 0},
		"no answer at all":  {func(engine.Reply) error { return nil }, "invalid_response", 502, 0},
		"connection header": {head(200, event.Header{Name: "Connection", Value: "close"}), "invalid_response", 502, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, e, _ := setup(func(_ context.Context, _ bool, _ *engine.Request, out engine.Reply) error { return c.run(out) })
			if res := r.Run(t.Context(), e); res.Answer != nil {
				t.Errorf("nobody asked for it: %+v", res.Answer)
			}
			e.KeepAnswer = true
			a := r.Run(t.Context(), e).Answer
			if c.want == 0 {
				if a != nil {
					t.Errorf("kept %+v", a)
				}
				return
			}
			if a == nil || a.Status != c.want || a.Kind != c.kind || len(a.Body) != c.size || (a.Kind != "") != (a.Error != "") {
				t.Errorf("kept %+v", a)
			}
		})
	}
}

// A caller that stops waiting does not end the run, whose entry is async afterwards and keeps its answer.
func TestRunGoesOnWithoutItsCaller(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		release      inbox.Release
		sync, answer bool
	}{
		{inbox.Detached, false, true},
		{inbox.InDoubt, true, true},
		{inbox.Attached, true, false},
	} {
		begun, goOn := make(chan struct{}), make(chan struct{})
		r, e, in := setup(func(ctx context.Context, _ bool, _ *engine.Request, out engine.Reply) error {
			close(begun)
			<-goOn
			if c.answer && ctx.Err() != nil {
				t.Error("the run was ended")
			}
			_ = out.Head(engine.Head{Status: 201})
			_, err := out.Write([]byte("done"))
			return err
		})
		e.ReplyTo = uuid.New()
		w := in.Register(e.ReplyTo)
		done := make(chan Result)
		go func() { done <- r.Run(t.Context(), e) }()
		<-begun
		w.Hold()
		w.Release(c.release)
		w.Close()
		close(goOn)
		res := <-done
		if e.Sync() != c.sync || e.KeepAnswer != c.answer || (res.Answer != nil) != c.answer || res.Absent == c.answer {
			t.Errorf("released as %v: entry %+v, result %+v", c.release, e, res)
		}
		if c.answer && (res.Answer.Status != 201 || string(res.Answer.Body) != "done") {
			t.Errorf("released as %v: kept %+v", c.release, res.Answer)
		}
	}
}

// Where the answer is kept in any case, a caller that leaves costs nothing but its connection.
func TestKeptAnswerOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	r, e, in := setup(func(ctx context.Context, _ bool, _ *engine.Request, out engine.Reply) error {
		close(begun)
		<-goOn
		if ctx.Err() != nil {
			t.Error("the run was ended")
		}
		_ = out.Head(engine.Head{Status: 200})
		for range 5 {
			if _, err := out.Write([]byte("x")); err != nil {
				return err
			}
		}
		return nil
	})
	e.ReplyTo, e.KeepAnswer = uuid.New(), true
	w := in.Register(e.ReplyTo)
	done := make(chan Result)
	go func() { done <- r.Run(t.Context(), e) }()
	<-begun
	w.Close()
	close(goOn)
	if res := <-done; res.Absent || res.Fault != nil || res.Answer == nil || string(res.Answer.Body) != "xxxxx" {
		t.Fatalf("%+v", res)
	}
}

func TestBatchesKeepHowEachEnded(t *testing.T) {
	t.Parallel()
	r, e, _ := setup(func(_ context.Context, _ bool, _ *engine.Request, out engine.Reply) error {
		return out.Head(engine.Head{Status: 200})
	})
	env := event.Envelope{ID: "x", Source: "http", Type: "t"}
	e.Envelope, _ = env.Marshal()
	other := *e
	other.ID, other.KeepAnswer = uuid.New(), true
	res := r.RunBatch(t.Context(), []*outbox.Entry{e, &other})
	if res[0].Answer != nil || res[1].Answer == nil || res[1].Answer.Status != 204 {
		t.Fatalf("%+v %+v", res[0].Answer, res[1].Answer)
	}
}
