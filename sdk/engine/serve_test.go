package engine_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/engine/enginetest"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin"
	enginev1 "github.com/picloud/picloud/sdk/proto/engine/v1"
)

func TestSmallAnswerIsOneMessage(t *testing.T) {
	t.Parallel()
	w := patientOf(t, enginetest.Puppet{})
	w.invoke(1, "echo hello", 0)
	o := w.next().GetOutput()
	if o.GetHead().GetStatus() != 200 || string(o.GetData()) != "hello" || !o.GetEnd() || o.GetFault() != nil {
		t.Fatalf("%v", o)
	}
}

// An answer that comes slowly is not held back until its end.
func TestSlowAnswerIsSeen(t *testing.T) {
	t.Parallel()
	steps := make(chan struct{})
	w := engineOf(t, engineFunc(func(_ context.Context, inv *engine.Invocation, out engine.Reply) error {
		if err := out.Head(engine.Head{Status: 200}); err != nil {
			return err
		}
		if _, err := out.Write(inv.Body); err != nil {
			return err
		}
		<-steps
		_, err := out.Write([]byte("two"))
		<-steps
		return err
	}))
	for id, body := range map[uint64]string{1: "one", 2: ""} {
		w.invoke(id, body, 0)
		o := w.next().GetOutput()
		if o.GetHead().GetStatus() == 200 && len(o.GetData()) < len(body) { // the engine was held up at the head already
			o.Data = w.next().GetOutput().GetData()
		}
		if o.GetHead().GetStatus() != 200 || string(o.GetData()) != body || o.GetEnd() {
			t.Fatalf("%v", o)
		}
		steps <- struct{}{}
		if o := w.next().GetOutput(); o.GetHead() != nil || string(o.GetData()) != "two" || o.GetEnd() {
			t.Fatalf("%v", o)
		}
		steps <- struct{}{}
		if o := w.next().GetOutput(); o.GetHead() != nil || len(o.GetData()) != 0 || !o.GetEnd() {
			t.Fatalf("%v", o)
		}
	}
}

// A run that fails before anything of its answer has left has no answer but its fault.
func TestFailureTakesTheAnswerBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error
		kind   fault.Kind
		origin fault.Origin
	}{
		"a fault":    {fault.New(fault.ScriptError, fault.Script, "no"), fault.ScriptError, fault.Script},
		"any error":  {errors.New("no"), fault.Internal, fault.Plugin},
		"its answer": {nil, fault.Limit, fault.Script},
	} {
		w := patientOf(t, engineFunc(func(_ context.Context, _ *engine.Invocation, out engine.Reply) error {
			if err := out.Head(engine.Head{Status: 200}); err != nil {
				return err
			}
			if _, err := out.Write([]byte("half")); err != nil {
				return err
			}
			if c.err != nil {
				return c.err
			}
			_, err := out.Write([]byte(" and more than the limit"))
			return err
		}))
		limits := &enginev1.Limits{BodyBytes: 10}
		if _, err := w.rpc.Load(t.Context(), &enginev1.LoadRequest{Hash: "b", Limits: limits}); err != nil {
			t.Fatal(err)
		}
		w.invoke(1, "", 0)
		o := w.next().GetOutput()
		if f := o.GetFault(); o.GetHead() != nil || len(o.GetData()) > 0 || !o.GetEnd() ||
			f.GetKind() != string(c.kind) || f.GetOrigin() != string(c.origin) {
			t.Errorf("%s: %v", name, o)
		}
	}
}

// An engine stops when it has sent a window, and goes on when the host takes it.
func TestAnswerWaitsForCredit(t *testing.T) {
	t.Parallel()
	var handed atomic.Int64
	w := engineOf(t, engineFunc(func(_ context.Context, _ *engine.Invocation, out engine.Reply) error {
		if err := out.Head(engine.Head{Status: 200}); err != nil {
			return err
		}
		for {
			n, err := out.Write(make([]byte, 100_000))
			if handed.Add(int64(n)); err != nil {
				return err
			}
		}
	}))
	w.invoke(1, "", 0)
	seen := 0
	read := func(until int) {
		for seen < until {
			seen += len(w.next().GetOutput().GetData())
		}
	}
	read(plugin.WindowBytes)
	w.send(credit(1, 1000))
	read(plugin.WindowBytes + 1000)
	w.send(credit(1, -5), credit(1, 1<<40), cancelOf(1)) // what a host cannot grant counts for nothing
	f, more := w.end(1)
	if f.GetKind() != string(fault.Cancelled) || more != 0 || seen != plugin.WindowBytes+1000 || handed.Load() != int64(seen) {
		t.Errorf("%v, %d and %d bytes, %d handed out", f, seen, more, handed.Load())
	}
}

// What an engine gives to Write and Head is its own again when they return.
func TestAnswerIsCopied(t *testing.T) {
	t.Parallel()
	c := enginetest.Dial(t, engineFunc(func(_ context.Context, _ *engine.Invocation, out engine.Reply) error {
		headers := []event.Header{{Name: "A", Value: "1"}}
		if err := out.Head(engine.Head{Status: 200, Headers: headers}); err != nil {
			return err
		}
		headers[0].Value = "2"
		piece := make([]byte, 8)
		for c := byte('a'); c < 'e'; c++ {
			for i := range piece {
				piece[i] = c
			}
			if _, err := out.Write(piece); err != nil {
				return err
			}
		}
		clear(piece)
		return nil
	}))
	var a enginetest.Answer
	if err := c.Invoke(t.Context(), enginetest.Request(t, "b", ""), &a); err != nil {
		t.Fatal(err)
	}
	if a.Body() != "aaaaaaaabbbbbbbbccccccccdddddddd" || a.Heads()[0].Headers[0].Value != "1" {
		t.Errorf("%q %+v", a.Body(), a.Heads())
	}
}

func TestReplyRefuses(t *testing.T) {
	t.Parallel()
	c := enginetest.Dial(t, engineFunc(func(_ context.Context, _ *engine.Invocation, out engine.Reply) error {
		if _, err := out.Write([]byte("x")); err == nil {
			return errors.New("a body without a head")
		}
		var f *fault.Fault
		big := []event.Header{{Name: "A", Value: strings.Repeat("x", 2*mib)}}
		if err := out.Head(engine.Head{Status: 200, Headers: big}); !errors.As(err, &f) || f.Kind != fault.Limit {
			return errors.New("giant headers")
		}
		if err := out.Head(engine.Head{Status: 200}); err != nil {
			return err
		}
		if err := out.Head(engine.Head{Status: 201}); err == nil {
			return errors.New("a second head")
		}
		_, err := out.Write(nil)
		return err
	}))
	var a enginetest.Answer
	if err := c.Invoke(t.Context(), enginetest.Request(t, "b", ""), &a); err != nil || len(a.Heads()) != 1 || a.Heads()[0].Status != 200 {
		t.Errorf("%v %+v", err, a.Heads())
	}
}

// Nothing that a script says is too large or too odd for the session, which its whole app shares.
func TestOddTextsDoNotEndTheSession(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("é", 10*mib)
	c := enginetest.Dial(t, engineFunc(func(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
		switch string(inv.Body) {
		case "fail":
			f := fault.New(fault.ScriptError, fault.Script, "%s", huge)
			f.Detail = huge
			return f
		case "kind":
			return fault.New("\xff", "\xff", "\xff")
		case "log":
			inv.Log(engine.Log{Level: "\xff", Message: "\xff"})
			inv.Log(engine.Log{Message: huge})
		case "service":
			_, err := inv.Call(ctx, "\xff", "ask", nil)
			return err
		case "args":
			_, err := inv.Call(ctx, "test", "ask", []byte(huge))
			return err
		case "panic":
			panic(huge)
		}
		return out.Head(engine.Head{Status: 204})
	}))
	if _, err := c.Load(t.Context(), engine.Bundle{Hash: "b", Limits: engine.Limits{LogBytes: 100 * mib}}); err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]fault.Kind{
		"fail": fault.ScriptError, "kind": "\uFFFD", "log": "", "service": fault.NotFound, "args": fault.Limit, "panic": fault.Internal,
	} {
		r := enginetest.Request(t, "b", body)
		var lines []engine.Log
		r.Log = func(l []engine.Log) { lines = append(lines, l...) }
		err := c.Invoke(t.Context(), r, &enginetest.Answer{})
		if kindOf(err) != want || err != nil && len(err.Error()) > 64<<10 {
			t.Errorf("%s: %q", body, kindOf(err))
		}
		if body == "log" && (len(lines) != 2 || lines[0].Message != "\xff" || lines[1].Message != "1 log lines over the limit were dropped") {
			t.Errorf("%+v", lines)
		}
	}
}

// A run may have as many calls under way as the host takes; more wait for their turn, and none is refused.
func TestCallsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	const bound, all = 16, 100
	c := enginetest.Dial(t, engineFunc(func(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
		errs := make(chan error, all)
		for range all {
			go func() {
				_, err := inv.Call(ctx, "test", "ask", nil)
				errs <- err
			}()
		}
		for range all {
			if err := <-errs; err != nil {
				return err
			}
		}
		return out.Head(engine.Head{Status: 204})
	}))
	r := enginetest.Request(t, "b", "")
	var asked, open atomic.Int32
	full := make(chan struct{})
	r.Call = func(ctx context.Context, _, _ string, _ []byte) ([]byte, error) {
		if n := open.Add(1); n > bound {
			t.Errorf("%d calls are under way", n)
		}
		if asked.Add(1) == bound {
			close(full)
		}
		<-full
		open.Add(-1)
		return nil, nil
	}
	if err := c.Invoke(t.Context(), r, &enginetest.Answer{}); err != nil {
		t.Error(err)
	}
	if n := asked.Load(); n != all {
		t.Errorf("%d of %d calls have come", n, all)
	}
}

func TestLogLimits(t *testing.T) {
	t.Parallel()
	c := enginetest.Dial(t, engineFunc(func(_ context.Context, inv *engine.Invocation, out engine.Reply) error {
		for range 200 {
			inv.Log(engine.Log{Level: "info", Message: "0123456789"})
		}
		return out.Head(engine.Head{Status: 204})
	}))
	for name, limits := range map[string]engine.Limits{"lines": {LogLines: 70}, "bytes": {LogBytes: 705}} {
		if _, err := c.Load(t.Context(), engine.Bundle{Hash: name, Limits: limits}); err != nil {
			t.Fatal(err)
		}
		r := enginetest.Request(t, name, "")
		var lines []engine.Log
		r.Log = func(l []engine.Log) { lines = append(lines, l...) }
		if err := c.Invoke(t.Context(), r, &enginetest.Answer{}); err != nil {
			t.Fatal(err)
		}
		if len(lines) != 71 || lines[70].Level != "warn" || lines[70].Message != "130 log lines over the limit were dropped" {
			t.Errorf("%s: %d lines, %+v", name, len(lines), lines[len(lines)-1])
		}
	}
}

// What a run leaves behind is not heard any more: a message after the end would cost the host the session.
func TestNothingFollowsTheEnd(t *testing.T) {
	t.Parallel()
	late, done := make(chan struct{}), make(chan error, 1)
	w := engineOf(t, engineFunc(func(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
		if string(inv.Body) == "second" {
			return out.Head(engine.Head{Status: 204})
		}
		go func() {
			<-late
			for range 1000 {
				inv.Log(engine.Log{Message: "late"})
			}
			if _, err := out.Write(make([]byte, 10)); err == nil {
				done <- errors.New("an answer after the end")
				return
			}
			_, err := inv.Call(context.WithoutCancel(ctx), "test", "ask", nil)
			if err == nil {
				err = errors.New("a call after the end")
			} else {
				err = nil
			}
			done <- err
		}()
		if err := out.Head(engine.Head{Status: 200}); err != nil {
			return err
		}
		for range 2 { // so that nothing is held back
			if _, err := out.Write([]byte("x")); err != nil {
				return err
			}
		}
		return nil
	}))
	w.invoke(1, "first", 0)
	if f, n := w.end(1); f != nil || n != 2 {
		t.Fatal(f, n)
	}
	close(late)
	if err := <-done; err != nil {
		t.Error(err)
	}
	w.invoke(2, "second", 0)
	if f, _ := w.end(2); f != nil { // and nothing of run 1 before it
		t.Error(f)
	}
}

func TestRequestBodyInPieces(t *testing.T) {
	t.Parallel()
	w := patientOf(t, engineFunc(func(_ context.Context, inv *engine.Invocation, out engine.Reply) error {
		if err := out.Head(engine.Head{Status: 200}); err != nil {
			return err
		}
		_, err := out.Write(inv.Body)
		return err
	}))
	env, err := (&event.Envelope{ID: "e"}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	begin := func(id uint64, timeout int64) {
		w.send(&enginev1.Message{Id: id, Body: &enginev1.Message_Invoke{Invoke: &enginev1.Invoke{
			TimeoutMs: timeout, Events: []*enginev1.Event{{Envelope: env, Body: []byte("ab"), BodyBytes: 6}},
		}}})
	}
	chunk := func(id uint64, s string) {
		w.send(&enginev1.Message{Id: id, Body: &enginev1.Message_Chunk{Chunk: &enginev1.Chunk{Data: []byte(s)}}})
	}
	begin(1, 0)
	chunk(1, "cd")
	if n := w.next().GetCredit().GetBytes(); n != plugin.Cost(2) {
		t.Errorf("credit for %d bytes", n)
	}
	chunk(1, "ef")
	if o := w.next().GetOutput(); string(o.GetData()) != "abcdef" || !o.GetEnd() {
		t.Errorf("%v", o)
	}
	begin(2, 10) // the rest never comes
	if f, _ := w.end(2); f.GetKind() != string(fault.Deadline) || f.GetOrigin() != string(fault.Platform) {
		t.Errorf("%v", f)
	}
	begin(3, 0)
	w.send(cancelOf(3))
	if f, _ := w.end(3); f.GetKind() != string(fault.Cancelled) {
		t.Errorf("%v", f)
	}
}

// An invocation that the engine cannot make sense of fails, and nothing else.
func TestOddInvocations(t *testing.T) {
	t.Parallel()
	w := patientOf(t, enginetest.Puppet{})
	for id, events := range map[uint64][]*enginev1.Event{1: {{Envelope: []byte{0xff}}}, 2: nil, 3: {{}, {}}} {
		w.send(&enginev1.Message{Id: id, Body: &enginev1.Message_Invoke{Invoke: &enginev1.Invoke{Events: events}}})
		if f, _ := w.end(id); f.GetKind() != string(fault.Invalid) || f.GetOrigin() != string(fault.Platform) {
			t.Errorf("%v", f)
		}
	}
	w.invoke(4, "echo on", 0)
	if o := w.next().GetOutput(); string(o.GetData()) != "on" {
		t.Errorf("%v", o)
	}
}

// An engine that drains finishes what it has and takes no more.
func TestDrain(t *testing.T) {
	t.Parallel()
	begun, finish := make(chan struct{}), make(chan struct{})
	c := enginetest.Dial(t, engineFunc(func(_ context.Context, _ *engine.Invocation, out engine.Reply) error {
		close(begun)
		<-finish
		return out.Head(engine.Head{Status: 200})
	}))
	ended, drained := make(chan error, 1), make(chan error, 1)
	go func() { ended <- c.Invoke(t.Context(), enginetest.Request(t, "b", ""), &enginetest.Answer{}) }()
	<-begun
	impatient, stop := context.WithCancel(t.Context())
	stop()
	if err := c.Drain(impatient); kindOf(err) != fault.Deadline {
		t.Error(err)
	}
	go func() { drained <- c.Drain(t.Context()) }()
	if err := c.Health(t.Context()); err != nil {
		t.Error(err)
	}
	close(finish)
	for _, e := range []chan error{ended, drained} {
		if err := <-e; err != nil {
			t.Error(err)
		}
	}
	if err := c.Invoke(t.Context(), enginetest.Request(t, "b", ""), &enginetest.Answer{}); kindOf(err) != fault.Unavailable {
		t.Error(err)
	}
}

// The end of the session ends what runs in the engine.
func TestSessionEndCancelsRuns(t *testing.T) {
	t.Parallel()
	begun, ended := make(chan struct{}, 2), make(chan struct{}, 2)
	c := enginetest.Dial(t, engineFunc(func(ctx context.Context, inv *engine.Invocation, _ engine.Reply) error {
		begun <- struct{}{}
		defer func() { ended <- struct{}{} }()
		if bytes.Equal(inv.Body, []byte("call")) {
			_, err := inv.Call(context.WithoutCancel(ctx), "test", "ask", nil)
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}))
	errs := make(chan error, 2)
	for _, body := range []string{"", "call"} {
		r := enginetest.Request(t, "b", body)
		r.Call = func(ctx context.Context, _, _ string, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		go func() { errs <- c.Invoke(context.Background(), r, &enginetest.Answer{}) }()
	}
	<-begun
	<-begun
	c.Close()
	for range 2 {
		if err := <-errs; kindOf(err) != fault.EngineLost {
			t.Error(err)
		}
		<-ended
	}
	if err := c.Invoke(t.Context(), enginetest.Request(t, "b", ""), &enginetest.Answer{}); kindOf(err) != fault.Unavailable {
		t.Error(err)
	}
}

// A run that failed since a service was not to be had, or gave up, has begun: it is not one of which nothing was started.
func TestFaultOfAServiceIsTheRunsOwn(t *testing.T) {
	t.Parallel()
	c := enginetest.Dial(t, engineFunc(func(ctx context.Context, inv *engine.Invocation, _ engine.Reply) error {
		_, err := inv.Call(ctx, "test", "ask", nil)
		return err
	}))
	for _, kind := range []fault.Kind{fault.Unavailable, fault.Cancelled} {
		r := enginetest.Request(t, "b", "")
		r.Call = func(context.Context, string, string, []byte) ([]byte, error) {
			return nil, fault.New(kind, fault.Platform, "not now")
		}
		err := c.Invoke(t.Context(), r, &enginetest.Answer{})
		if kindOf(err) != fault.ScriptError || err.Error() != "not now" {
			t.Errorf("%s became %v of kind %s", kind, err, kindOf(err))
		}
	}
}
