package execution

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// engineFunc is an engine that does what a test says.
type engineFunc func(ctx context.Context, lone bool, r *engine.Request, out engine.Reply) error

func (f engineFunc) Invoke(ctx context.Context, _ *tenant.Script, lone bool, r *engine.Request, out engine.Reply) error {
	return f(ctx, lone, r, out)
}

type scripts map[uuid.UUID]*tenant.Script

func (s scripts) Script(id uuid.UUID) *tenant.Script { return s[id] }

func setup(do engineFunc) (*Runner, *outbox.Entry, *inbox.Inbox) {
	s := &tenant.Script{ID: uuid.New(), App: uuid.New(), Name: "s", Version: 3, Hash: "h"}
	in := &inbox.Inbox{}
	e := &outbox.Entry{
		ID: uuid.New(), App: s.App, Target: s.ID, Attempt: 2, AcceptedAt: time.Now(), Timeout: time.Minute,
		Envelope: []byte("env"), Payload: []byte("body"),
	}
	return New(do, scripts{s.ID: s}, nil, in, nil, nil), e, in
}

func TestAsyncRun(t *testing.T) {
	t.Parallel()
	r, e, _ := setup(func(ctx context.Context, lone bool, r *engine.Request, out engine.Reply) error {
		if _, ok := ctx.Deadline(); !ok || lone || r.Attempt != 2 || string(r.Envelope) != "env" || string(r.Body) != "body" {
			t.Errorf("asked for %+v", r)
		}
		r.Log([]engine.Log{{Level: "info", Message: "hi", Data: []byte(`{"a":1}`)}})
		_ = out.Head(engine.Head{Status: 200})
		_, _ = out.Write([]byte("answer"))
		return nil
	})
	res := r.Run(t.Context(), e)
	if res.Fault != nil || res.Status != 200 || res.Version != 3 || res.Response != nil || !strings.Contains(string(res.Logs), `"hi"`) {
		t.Fatalf("%+v", res)
	}
}

func TestLoneAfterALoss(t *testing.T) {
	t.Parallel()
	r, e, _ := setup(func(_ context.Context, lone bool, _ *engine.Request, out engine.Reply) error {
		if !lone {
			t.Error("it runs beside others")
		}
		_, _ = out.Write([]byte("half an answer"))
		return fault.New(fault.EngineLost, fault.Plugin, "gone")
	})
	e.EngineLosses = 1
	if res := r.Run(t.Context(), e); res.Fault.Kind != fault.EngineLost || string(res.Response) != "half an answer" {
		t.Fatalf("%+v", res)
	}
}

// Whoever ends a run is the one who is blamed for it, not the engine that only obeys.
func TestWhyARunEnded(t *testing.T) {
	t.Parallel()
	obey := func(ctx context.Context, _ bool, _ *engine.Request, _ engine.Reply) error {
		<-ctx.Done()
		return fault.New(fault.Cancelled, fault.Platform, "told to")
	}
	r, e, _ := setup(obey)
	e.Timeout = time.Millisecond
	if res := r.Run(t.Context(), e); res.Fault.Kind != fault.Deadline || !strings.Contains(res.Fault.Message, "1ms") {
		t.Errorf("%+v", res.Fault)
	}

	r, e, _ = setup(obey)
	ctx, cancel := context.WithCancelCause(t.Context())
	lost := fault.New(fault.Cancelled, fault.Platform, "the node lost its lease")
	cancel(lost)
	if res := r.Run(ctx, e); !errors.Is(res.Fault, lost) {
		t.Errorf("%+v", res.Fault)
	}

	r, e, in := setup(obey)
	e.ReplyTo = uuid.New()
	w := in.Register(e.ReplyTo)
	done := make(chan Result)
	go func() { done <- r.Run(t.Context(), e) }()
	w.Close()
	if res := <-done; !res.Absent {
		t.Errorf("%+v", res)
	}
}

func TestTargetIsGone(t *testing.T) {
	t.Parallel()
	r, e, _ := setup(nil)
	e.Target = uuid.New()
	if res := r.Run(t.Context(), e); !res.Gone || res.Fault.Kind != fault.NotFound || res.Version != 0 {
		t.Fatalf("%+v", res)
	}
	r, e, _ = setup(nil)
	e.App = uuid.New() // somebody else's script
	if res := r.Run(t.Context(), e); !res.Gone {
		t.Fatalf("%+v", res)
	}
}

func TestLogBookLimits(t *testing.T) {
	t.Parallel()
	limits := tenant.DefaultLimits()
	b := logBook{limits: limits}
	if b.encode() != nil {
		t.Error("nothing was logged")
	}
	for range limits.LogLines + 5 {
		b.add([]engine.Log{{Level: "info", Message: "x", Data: []byte("no JSON")}})
	}
	var lines []logLine
	if err := json.Unmarshal(b.encode(), &lines); err != nil {
		t.Fatal(err)
	}
	if last := lines[len(lines)-1]; len(lines) != limits.LogLines+1 || !strings.Contains(string(last.Data), `"dropped":5`) {
		t.Errorf("%d lines, the last is %+v", len(lines), last)
	}
	long := logBook{limits: limits}
	long.add([]engine.Log{{Message: strings.Repeat("é", logMessage)}, {Message: "\xff"}})
	if err := json.Unmarshal(long.encode(), &lines); err != nil || len(lines[0].Message) > logMessage+len("…")+2 {
		t.Errorf("%v, %d bytes", err, len(lines[0].Message))
	}
}
