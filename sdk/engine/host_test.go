package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin"
	enginev1 "github.com/picloud/picloud/sdk/proto/engine/v1"
	pluginv1 "github.com/picloud/picloud/sdk/proto/plugin/v1"
)

func TestLargeBodies(t *testing.T) {
	t.Parallel()
	c := enginetest.Dial(t, enginetest.Puppet{})
	var a enginetest.Answer
	if err := c.Invoke(t.Context(), enginetest.Request(t, "b", "size "+strings.Repeat("x", 6*mib)), &a); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("[%d,%d]", 6*mib+5, 6*mib); a.Body() != want {
		t.Errorf("the engine saw %s, not %s", a.Body(), want)
	}
	a = enginetest.Answer{}
	if err := c.Invoke(t.Context(), enginetest.Request(t, "b", fmt.Sprint("flood ", 6*mib)), &a); err != nil || len(a.Body()) != 6*mib {
		t.Errorf("%d bytes, %v", len(a.Body()), err)
	}
}

// A receiver that is behind holds its own run back at one window, and nobody else.
func TestSlowReceiver(t *testing.T) {
	t.Parallel()
	var handed atomic.Int64
	window := make(chan struct{})
	c := enginetest.Dial(t, engineFunc(func(_ context.Context, inv *engine.Invocation, out engine.Reply) error {
		if err := out.Head(engine.Head{Status: 200}); err != nil {
			return err
		}
		if string(inv.Body) == "small" {
			return nil
		}
		for range 6 * mib / 4096 {
			n, err := out.Write(make([]byte, 4096))
			if err != nil {
				return err
			}
			if handed.Add(int64(n)) == plugin.WindowBytes {
				close(window)
			}
		}
		return nil
	}))
	g := newGate()
	ended := make(chan error, 1)
	go func() { ended <- c.Invoke(t.Context(), enginetest.Request(t, "b", "big"), g) }()
	<-g.reached
	<-window
	for range 100 {
		if err := c.Invoke(t.Context(), enginetest.Request(t, "b", "small"), &enginetest.Answer{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := handed.Load(); n != plugin.WindowBytes {
		t.Errorf("%d bytes were handed out while the receiver took none", n)
	}
	close(g.open)
	if err := <-ended; err != nil || len(g.Body()) != 6*mib {
		t.Errorf("%d bytes, %v", len(g.Body()), err)
	}
}

// A large request waits for the engine's credit, and small ones pass it.
func TestRequestWaitsForCredit(t *testing.T) {
	t.Parallel()
	full := make(chan struct{})
	c := hostOf(t, func(w *wire) {
		if m := w.next().GetInvoke().GetEvents()[0]; len(m.GetBody()) != 0 || m.GetBodyBytes() != 6*mib {
			t.Errorf("%d bytes of %d", len(m.GetBody()), m.GetBodyBytes())
		}
		got := 0
		for got < plugin.WindowBytes {
			got += len(w.next().GetChunk().GetData())
		}
		close(full)
		for range 50 {
			m := w.next()
			if m.GetInvoke() == nil {
				t.Errorf("%v beyond the credit", m.GetId())
				return
			}
			w.send(whole(m.GetId(), "small"))
		}
		for credited := got; got < 6*mib; {
			if credited == got {
				w.send(credit(1, 2000), credit(1, 298_000))
				credited += 300_000
			}
			got += len(w.next().GetChunk().GetData())
			if got > credited {
				t.Errorf("%d bytes for a credit of %d", got, credited)
			}
		}
		w.send(whole(1, "big"))
	})
	ended := make(chan error, 1)
	go func() {
		ended <- c.Invoke(t.Context(), enginetest.Request(t, "b", strings.Repeat("x", 6*mib)), &enginetest.Answer{})
	}()
	<-full
	for range 50 {
		var a enginetest.Answer
		if err := c.Invoke(t.Context(), enginetest.Request(t, "b", "y"), &a); err != nil || a.Body() != "small" {
			t.Fatal(a.Body(), err)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServiceCalls(t *testing.T) {
	t.Parallel()
	c := enginetest.Dial(t, enginetest.Puppet{})
	refusal := fault.New(fault.NotFound, fault.Caller, "no such thing")
	refusal.Detail, refusal.RetryAfter, refusal.Fatal = "detail", 3*time.Second, true
	for name, x := range map[string]struct {
		call func(context.Context, string, string, []byte) ([]byte, error)
		want string
		err  fault.Fault
	}{
		"answer": {
			func(_ context.Context, service, method string, args []byte) ([]byte, error) {
				return fmt.Appendf(nil, "%s.%s(%s)", service, method, args), nil
			}, "test.ask(a b)", fault.Fault{},
		},
		"fault": {func(context.Context, string, string, []byte) ([]byte, error) { return nil, refusal }, "", *refusal},
		"error": {
			func(context.Context, string, string, []byte) ([]byte, error) { return nil, errors.New("oops") }, "",
			fault.Fault{Kind: fault.Internal, Origin: fault.Platform, Message: "oops"},
		},
		"none": {nil, "", fault.Fault{Kind: fault.NotFound, Origin: fault.Script, Message: "there is no service test.ask"}},
		"too large": {
			func(context.Context, string, string, []byte) ([]byte, error) {
				return make([]byte, plugin.MaxMessage), nil
			}, "",
			fault.Fault{Kind: fault.Limit, Origin: fault.Platform, Message: "the service answered 16777216 bytes, more than 16711680"},
		},
	} {
		r := enginetest.Request(t, "b", "call a b")
		r.Call = x.call
		var a enginetest.Answer
		var got fault.Fault
		if f := fault.From(c.Invoke(t.Context(), r, &a)); f != nil {
			got = *f
		}
		if got != x.err || a.Body() != x.want {
			t.Errorf("%s: %q, %+v", name, a.Body(), got)
		}
	}
}

// One run may have so many calls under way; the others of it are refused, and those of other runs are not.
func TestServiceCallsAreBounded(t *testing.T) {
	t.Parallel()
	const bound = 16
	call := func(id, n uint64) *enginev1.Message {
		return &enginev1.Message{Id: id, Body: &enginev1.Message_Call{Call: &enginev1.Call{Call: n, Service: "s"}}}
	}
	open := make(chan struct{})
	c := hostOf(t, func(w *wire) {
		w.next()
		for n := range uint64(bound + 1) {
			w.send(call(1, n))
		}
		if r := w.next().GetCallResult(); r.GetCall() != bound || r.GetFault().GetKind() != string(fault.Limit) {
			t.Errorf("%v", r)
		}
		close(open)
		for range bound {
			if r := w.next().GetCallResult(); string(r.GetResult()) != "ok" {
				t.Errorf("%v", r)
			}
		}
		w.send(call(1, 99))
		if r := w.next().GetCallResult(); r.GetCall() != 99 || string(r.GetResult()) != "ok" {
			t.Errorf("%v", r)
		}
		w.send(whole(1, ""))
	})
	r := enginetest.Request(t, "b", "")
	r.Call = func(context.Context, string, string, []byte) ([]byte, error) {
		<-open
		return []byte("ok"), nil
	}
	if err := c.Invoke(t.Context(), r, &enginetest.Answer{}); err != nil {
		t.Error(err)
	}
}

// A run is told to end when its caller gives up, and its calls with it.
func TestCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	called := make(chan struct{})
	c := hostOf(t, func(w *wire) {
		w.next()
		w.send(&enginev1.Message{Id: 1, Body: &enginev1.Message_Call{Call: &enginev1.Call{Call: 1}}})
		m := w.next()
		if m.GetCallResult() != nil { // the call may end first
			m = w.next()
		}
		if m.GetCancel() == nil {
			t.Errorf("not cancelled: %v", m)
		}
		w.send(output(1, &enginev1.Output{End: true, Fault: &pluginv1.Fault{Kind: "deadline", Message: []byte("what it made of it")}}))
	})
	r := enginetest.Request(t, "b", "")
	r.Call = func(ctx context.Context, _, _ string, _ []byte) ([]byte, error) {
		cancel(errors.New("changed my mind"))
		<-ctx.Done()
		close(called)
		return nil, ctx.Err()
	}
	err := c.Invoke(ctx, r, &enginetest.Answer{})
	if kindOf(err) != fault.Cancelled || err.Error() != "the run was cancelled: changed my mind" {
		t.Error(err)
	}
	<-called
	if err := c.Invoke(ctx, r, &enginetest.Answer{}); kindOf(err) != fault.Unavailable {
		t.Error(err)
	}
}

// The engine is told how long it has, and one that ignores it is given up.
func TestDeadline(t *testing.T) {
	t.Parallel()
	var limit atomic.Int64
	c := hostOf(t, func(w *wire) {
		if m := w.next().GetInvoke(); m.GetTimeoutMs() < 1 || m.GetTimeoutMs() > limit.Load() {
			t.Errorf("it has %d ms", m.GetTimeoutMs())
		}
		if m := w.next(); m.GetCancel() == nil {
			t.Errorf("not cancelled: %v", m)
		}
	})
	err := error(fault.New(fault.Unavailable, fault.Platform, ""))
	for limit.Store(30); kindOf(err) == fault.Unavailable; limit.Store(2 * limit.Load()) { // its time was over before it was sent
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(limit.Load())*time.Millisecond)
		err = c.Invoke(ctx, enginetest.Request(t, "b", ""), &enginetest.Answer{})
		cancel()
	}
	if f := fault.From(err); f == nil || f.Kind != fault.Deadline || f.Origin != fault.Script {
		t.Error(err)
	}
	<-c.Stuck()
}

// What the receiver says wins over what the engine makes of being told to end.
func TestReceiverFails(t *testing.T) {
	t.Parallel()
	c := enginetest.Dial(t, enginetest.Puppet{})
	gone := errors.New("the caller is gone")
	if err := c.Invoke(t.Context(), enginetest.Request(t, "b", "flood 3000000"), broken{gone}); !errors.Is(err, gone) {
		t.Error(err)
	}
	if err := c.Invoke(t.Context(), enginetest.Request(t, "b", "echo"), &enginetest.Answer{}); err != nil {
		t.Error(err)
	}
}

type broken struct{ err error }

func (broken) Head(engine.Head) error        { return nil }
func (b broken) Write(p []byte) (int, error) { return 0, b.err }

// An engine that breaks the protocol loses every run, and what it sent then reaches none of them.
func TestGarbageEndsTheSession(t *testing.T) {
	t.Parallel()
	head := &enginev1.Head{Status: 200}
	body := func(n int) *enginev1.Output { return &enginev1.Output{Data: make([]byte, n)} }
	for name, garbage := range map[string][]*enginev1.Message{
		"unknown run":         {whole(7, "x")},
		"run zero":            {whole(0, "x")},
		"no body":             {{Id: 1}},
		"empty message":       {{}},
		"invoke":              {{Id: 1, Body: &enginev1.Message_Invoke{Invoke: &enginev1.Invoke{}}}},
		"cancel":              {cancelOf(1)},
		"chunk":               {{Id: 1, Body: &enginev1.Message_Chunk{Chunk: &enginev1.Chunk{Data: []byte("x")}}}},
		"call result":         {{Id: 1, Body: &enginev1.Message_CallResult{CallResult: &enginev1.CallResult{}}}},
		"credit":              {credit(1, 1)},
		"negative credit":     {credit(1, -1)},
		"beyond its credit":   {output(1, &enginev1.Output{Head: head}), output(1, body(plugin.WindowBytes)), output(1, body(1))},
		"a giant piece":       {output(1, &enginev1.Output{Head: head, Data: make([]byte, plugin.ChunkBytes+1)})},
		"two heads":           {output(1, &enginev1.Output{Head: head}), output(1, &enginev1.Output{Head: head})},
		"no head":             {output(1, body(1))},
		"nothing":             {output(1, &enginev1.Output{Head: head}), output(1, &enginev1.Output{})},
		"nil output":          {output(1, nil)},
		"garbage among runs":  {logs(2, "fine"), whole(9, "x"), whole(2, "never")},
		"credit of all bytes": {credit(2, 1<<62)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := hostOf(t, func(w *wire) {
				for range 2 {
					w.next()
				}
				w.send(garbage...)
				w.send(whole(1, "late"), whole(2, "late"))
			})
			var all sync.WaitGroup
			for range 2 {
				all.Go(func() {
					var a enginetest.Answer
					err := c.Invoke(t.Context(), enginetest.Request(t, "b", ""), &a)
					if f := fault.From(err); f == nil || f.Kind != fault.EngineLost || f.Origin != fault.Plugin {
						t.Errorf("%v", err)
					}
					if strings.Contains(a.Body(), "late") || strings.Contains(a.Body(), "never") {
						t.Errorf("%d bytes crossed", len(a.Body()))
					}
				})
			}
			all.Wait()
			<-c.Lost()
			if err := c.Err(); !errors.Is(err, plugin.ErrProtocol) {
				t.Errorf("the session ended since %v", err)
			}
			if err := c.Invoke(t.Context(), enginetest.Request(t, "b", ""), &enginetest.Answer{}); kindOf(err) != fault.Unavailable {
				t.Error(err)
			}
			if _, err := c.Load(t.Context(), engine.Bundle{}); err == nil {
				t.Error("it loads")
			}
		})
	}
}

// Small pieces cost more than their length: an engine cannot make the host hold a million of them.
func TestSmallPiecesCost(t *testing.T) {
	t.Parallel()
	c := hostOf(t, func(w *wire) {
		w.next()
		w.send(output(1, &enginev1.Output{Head: &enginev1.Head{Status: 200}}))
		piece := output(1, &enginev1.Output{Data: []byte("x")})
		w.send(slices.Repeat([]*enginev1.Message{piece}, 1+int(plugin.WindowBytes/plugin.Cost(1)))...)
	})
	g := newGate()
	ended := make(chan error, 1)
	go func() { ended <- c.Invoke(t.Context(), enginetest.Request(t, "b", ""), g) }()
	<-c.Lost()
	if err := c.Err(); !errors.Is(err, plugin.ErrProtocol) {
		t.Error(err)
	}
	close(g.open)
	if err := <-ended; kindOf(err) != fault.EngineLost {
		t.Error(err)
	}
}

// A message that follows the end in the same breath is garbage, or late: in neither case does anybody hear it.
func TestMessagesAfterTheEnd(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]*enginev1.Message{
		"output": whole(1, "late"), "logs": logs(1, "late"), "credit": credit(1, 1),
		"call": {Id: 1, Body: &enginev1.Message_Call{Call: &enginev1.Call{Call: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := hostOf(t, func(w *wire) {
				w.next()
				w.send(whole(1, "answer"), late)
			})
			r := enginetest.Request(t, "b", "")
			r.Log = func([]engine.Log) { t.Error("a log line") }
			r.Call = func(context.Context, string, string, []byte) ([]byte, error) {
				t.Error("a call")
				return nil, nil
			}
			var a enginetest.Answer
			if err := c.Invoke(t.Context(), r, &a); err != nil || a.Body() != "answer" || len(a.Heads()) != 1 {
				t.Errorf("%q, %v", a.Body(), err)
			}
		})
	}
}

// A process that speaks for runs that it was not given, those of another process among them, is retired, and nothing is done for it.
func TestCallsOfOthersRuns(t *testing.T) {
	t.Parallel()
	const runs = 3
	call := func(id uint64) *enginev1.Message {
		m := &enginev1.Message{Id: id, Body: &enginev1.Message_Call{Call: &enginev1.Call{Call: 1, Service: "s", Method: "m"}}}
		// There is no field for whom it is made. One that somebody makes up is not looked at.
		m.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 100, protowire.BytesType), "another app"))
		return m
	}
	done := make(chan struct{})
	honest := hostOf(t, func(w *wire) {
		for range runs {
			w.next()
		}
		<-done
		w.send(whole(1, "one"), whole(2, "two"), whole(3, "three"))
	})
	var all sync.WaitGroup
	for range runs {
		all.Go(func() {
			r := enginetest.Request(t, "b", "")
			r.Call = func(context.Context, string, string, []byte) ([]byte, error) {
				t.Error("a call that the run did not make")
				return nil, nil
			}
			if err := honest.Invoke(t.Context(), r, &enginetest.Answer{}); err != nil {
				t.Error(err)
			}
		})
	}
	for _, id := range []uint64{0, 2, 3, 1 << 40, math.MaxUint64} {
		var calls atomic.Int64
		thief := hostOf(t, func(w *wire) {
			w.next()
			w.send(call(1)) // its own
			if w.next().GetCallResult() == nil {
				t.Error("no answer")
			}
			w.send(call(id), whole(1, "late"))
		})
		r := enginetest.Request(t, "b", "")
		r.Call = func(context.Context, string, string, []byte) ([]byte, error) {
			calls.Add(1)
			return nil, nil
		}
		if err := thief.Invoke(t.Context(), r, &enginetest.Answer{}); kindOf(err) != fault.EngineLost {
			t.Errorf("run %d: %v", id, err)
		}
		<-thief.Lost()
		if err := thief.Err(); !errors.Is(err, plugin.ErrProtocol) || calls.Load() != 1 {
			t.Errorf("run %d: %d calls, %v", id, calls.Load(), err)
		}
	}
	close(done)
	all.Wait()
}

// A run that has ended may still be spoken of, as its Cancel may have crossed.
func TestLateMessagesAreDropped(t *testing.T) {
	t.Parallel()
	c := hostOf(t, func(w *wire) {
		w.next()
		w.send(whole(1, "one"))
		w.next()
		w.send(logs(1, "late"), whole(1, "late"), credit(1, 1<<40), whole(2, "two"))
	})
	for _, want := range []string{"one", "two"} {
		r := enginetest.Request(t, "b", "")
		r.Log = func([]engine.Log) { t.Error("a log line") }
		var a enginetest.Answer
		if err := c.Invoke(t.Context(), r, &a); err != nil || a.Body() != want {
			t.Errorf("%q, %v", a.Body(), err)
		}
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	c := hostOf(t, func(w *wire) {
		w.next()
		w.send(output(1, &enginev1.Output{End: true}))
	})
	err := c.Invoke(t.Context(), enginetest.Request(t, "b", ""), &enginetest.Answer{})
	if f := fault.From(err); f == nil || f.Kind != fault.Internal || f.Origin != fault.Plugin {
		t.Error(err)
	}
	r := enginetest.Request(t, "b", "")
	r.Envelope = make([]byte, plugin.MaxMessage)
	if err := c.Invoke(t.Context(), r, &enginetest.Answer{}); kindOf(err) != fault.Invalid {
		t.Error(err)
	}
}

// The host holds back what the engine does not take at one time.
func TestWindowOfInvocations(t *testing.T) {
	t.Parallel()
	full := make(chan struct{})
	const window = 8
	c := hostOf(t, func(w *wire) {
		for range window {
			w.next()
		}
		close(full)
		for id := range uint64(window) {
			w.send(whole(id+1, ""))
		}
		w.send(whole(w.next().GetId(), ""))
	})
	var all sync.WaitGroup
	for range window + 1 {
		all.Go(func() {
			if err := c.Invoke(t.Context(), enginetest.Request(t, "b", ""), &enginetest.Answer{}); err != nil {
				t.Error(err)
			}
		})
	}
	<-full
	all.Wait()
}
