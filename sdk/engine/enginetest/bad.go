// Package enginetest checks engines against their contract, and holds an engine that breaks it on demand, for tests of
// those who must live with such engines.
package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// processNumber tells processes apart: each may see itself as number 1.
var processNumber = rand.Int()

// Puppet is an engine that does what the body of a request tells it: the first word is a command, the rest its
// argument. Unknown commands fail.
//
//	echo TEXT   answers TEXT          flood N     answers N bytes in pieces       log TEXT   logs TEXT
//	fail TEXT   fails with TEXT       hang        ignores its cancellation        wait       ends when it is cancelled
//	exit        ends the process      stderr N    writes N lines to standard error
//	call TEXT   asks the service "test" for TEXT and answers what it says         panic      panics
//	retry TEXT  fails and asks for 90 s       fatal TEXT  fails for good              send TEXT  sends TEXT to "other"
//	size        answers how long the body was, and how often each byte "x" occurs in it
//	which       answers a number of the process  spin        computes until it is cancelled
type Puppet struct{}

// Info describes the puppet.
func (Puppet) Info() engine.Info { return engine.Info{Name: "puppet", Version: "1", SDKVersion: "1.0"} }

// Load takes anything but a bundle named "broken".
func (Puppet) Load(_ context.Context, b engine.Bundle) (engine.Loaded, error) {
	if b.Script == "broken" {
		return engine.Loaded{Diagnostics: []engine.Diagnostic{{File: "main", Line: 3, Column: 7, Message: "no"}}},
			fault.New(fault.Compile, fault.Script, "main:3:7: no")
	}
	return engine.Loaded{}, nil
}

// Unload does nothing.
func (Puppet) Unload(string) {}

// Invoke does what the body says.
func (Puppet) Invoke(ctx context.Context, inv *engine.Invocation, out engine.Reply) error {
	if inv.Event.Type == event.BatchType {
		return batch(inv.Body, out)
	}
	command, arg, _ := strings.Cut(string(inv.Body), " ")
	answer := func(b []byte) error {
		if err := out.Head(engine.Head{Status: 200, Headers: []event.Header{{Name: "X-Attempt", Value: fmt.Sprint(inv.Attempt)}}}); err != nil {
			return err
		}
		_, err := out.Write(b)
		return err
	}
	switch command {
	case "echo":
		return answer([]byte(arg))
	case "size":
		b, err := json.Marshal([]int{len(inv.Body), strings.Count(arg, "x")})
		if err != nil {
			return err
		}
		return answer(b)
	case "flood":
		var n int
		if _, err := fmt.Sscan(arg, &n); err != nil {
			return err
		}
		piece := make([]byte, 64<<10)
		if err := answer(nil); err != nil {
			return err
		}
		for n > 0 {
			k := min(n, len(piece))
			if _, err := out.Write(piece[:k]); err != nil {
				return err
			}
			n -= k
		}
		return nil
	case "log":
		inv.Log(engine.Log{Level: "info", Message: arg})
		return answer(nil)
	case "fail":
		return fault.New(fault.ScriptError, fault.Script, "%s", arg)
	case "retry", "fatal":
		f := fault.New(fault.ScriptError, fault.Script, "%s", arg)
		if f.Fatal = command == "fatal"; !f.Fatal {
			f.RetryAfter = 90 * time.Second
		}
		return f
	case "send":
		args, err := json.Marshal(map[string]string{"script": "other", "data": arg})
		if err != nil {
			return err
		}
		result, err := inv.Call(ctx, "invoke", "send", args)
		if err != nil {
			return err
		}
		var sent struct{ ID string }
		if err := json.Unmarshal(result, &sent); err != nil {
			return err
		}
		return answer([]byte(sent.ID))
	case "call":
		result, err := inv.Call(ctx, "test", "ask", []byte(arg))
		if err != nil {
			return err
		}
		return answer(result)
	case "wait":
		<-ctx.Done()
		return fault.New(fault.Deadline, fault.Script, "waited for the end")
	case "spin":
		for ctx.Err() == nil {
		}
		return fault.New(fault.Deadline, fault.Script, "computed to the end")
	case "which":
		return answer([]byte(strconv.Itoa(processNumber)))
	case "hang":
		if arg != "" { // who waits for it to begin is told
			if err := answer([]byte(arg)); err != nil {
				return err
			}
		}
		time.Sleep(time.Hour) // beyond any deadline: that is the point
		return nil
	case "panic":
		panic(arg)
	case "exit":
		os.Exit(3)
	case "stderr":
		var n int
		if _, err := fmt.Sscan(arg, &n); err != nil {
			return err
		}
		for i := range n {
			fmt.Fprintln(os.Stderr, "line", i)
		}
		return answer(nil)
	}
	return fmt.Errorf("unknown command %q", command)
}

// batch fails for the events whose data begins with "bad".
func batch(body []byte, out engine.Reply) error {
	var in event.Batch
	if err := json.Unmarshal(body, &in); err != nil {
		return err
	}
	result := event.BatchResult{Failures: []event.BatchFailure{}}
	for _, item := range in.Items {
		if data := string(item.Data()); strings.HasPrefix(data, "bad") {
			result.Failures = append(result.Failures, event.BatchFailure{ID: item.ID, Error: data, Fatal: true})
		}
	}
	b, err := json.Marshal(result)
	if err != nil {
		return err
	}
	if err := out.Head(engine.Head{
		Status: 200, Headers: []event.Header{{Name: "Content-Type", Value: event.BatchContentType}},
	}); err != nil {
		return err
	}
	_, err = out.Write(b)
	return err
}
