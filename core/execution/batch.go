package execution

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"time"

	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/service"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// Limits of one run for several entries.
const (
	batchInput  = 6 << 20 // payloads of one run, as for one request; an entry that has more comes alone
	batchOutput = 1 << 20 // of an answer that tells of failures
)

// RunBatch starts the target of entries, which they all share, once for all of them, or once for each so many of them as
// a run can take. The results are in the order of entries. None of them is sync. It returns when nothing of the runs is
// left; ctx ends them early, and the cause says why.
func (r *Runner) RunBatch(ctx context.Context, entries []*outbox.Entry) []Result {
	if entries[0].TargetKind == outbox.TargetSink {
		return r.deliverAll(ctx, entries)
	}
	results := make([]Result, 0, len(entries))
	if script := r.target(entries[0]); script != nil && script.Transactional { // each is settled with what it does
		for _, e := range entries {
			results = append(results, r.Run(ctx, e))
		}
		return results
	}
	for _, e := range entries {
		if f, _ := r.actor(ctx, e); f != nil { // each is judged by itself
			for _, e := range entries {
				results = append(results, r.Run(ctx, e))
			}
			return results
		}
	}
	for len(entries) > 0 {
		n, size := 1, len(entries[0].Payload)
		// A run acts for one: what comes from nobody must not have the rights of what comes from somebody, nor the other way round.
		for n < len(entries) && size+len(entries[n].Payload) <= batchInput && entries[n].Principal == entries[0].Principal {
			size += len(entries[n].Payload)
			n++
		}
		results = append(results, r.runTogether(ctx, entries[:n])...)
		entries = entries[n:]
	}
	return results
}

// runTogether runs entries as one invocation, which has the id of the first.
func (r *Runner) runTogether(ctx context.Context, entries []*outbox.Entry) []Result {
	first := entries[0]
	res := Result{Started: time.Now()}
	ctx, cancel := context.WithDeadline(ctx, res.Started.Add(first.Timeout))
	defer cancel()
	script := r.target(first)
	if script == nil {
		res.Gone, res.Fault = true, gone()
		return share(res, entries, nil)
	}
	res.Version = script.Version
	request, err := batchRequest(entries)
	if err != nil {
		res.Fault = fault.New(fault.Internal, fault.Platform, "%v", err)
		return share(res, entries, nil)
	}
	limits := script.Bounds.Over(tenant.DefaultLimits())
	veil := &secret.Veil{}
	logs, answer := &logBook{limits: limits, veil: veil}, &batchAnswer{}
	request.Log, request.Call = logs.add, r.calls(service.Run{Entry: deepest(entries), Script: script, Veil: veil}, limits.Calls)
	failpoint.Hit(failpoint.RunStarted)
	err = r.engines.Invoke(ctx, script, hasLost(entries), request, answer)
	failpoint.Hit(failpoint.RunReturned)
	res.Duration = time.Since(res.Started)
	res.Status, res.Logs = answer.head.Status, logs.encode()
	if err != nil {
		res.Fault = veil.Fault(explain(ctx, err, first, script))
		res.Response = veil.Bytes(answer.data, answer.over)
		return share(res, entries, nil)
	}
	failures, err := answer.failures()
	if err == nil {
		err = belong(failures, entries)
	}
	if err != nil {
		res.Fault = veil.Fault(fault.New(fault.InvalidResponse, fault.Script, "%v", err))
		res.Response = veil.Bytes(answer.data[:min(len(answer.data), collected)], answer.over || len(answer.data) > collected)
	}
	for id, f := range failures {
		failures[id] = veil.Fault(f)
	}
	return share(res, entries, failures)
}

// batchRequest makes the invocation for several entries.
func batchRequest(entries []*outbox.Entry) (*engine.Request, error) {
	first := entries[0]
	batch := event.Batch{Items: make([]event.BatchItem, len(entries))}
	trace := ""
	for i, e := range entries {
		env, err := event.Unmarshal(e.Envelope)
		if err != nil {
			return nil, fmt.Errorf("entry %s: %w", e.ID, err)
		}
		if i == 0 {
			trace = env.TraceParent
		}
		batch.Items[i] = event.NewBatchItem(e.ID.String(), e.Attempt, env, e.Payload)
	}
	body, err := json.Marshal(batch)
	if err != nil {
		return nil, err
	}
	env := event.Envelope{
		ID: first.ID.String(), Source: first.Kind.String(), Type: event.BatchType, Time: time.Now(),
		ContentType: event.BatchContentType, TraceParent: trace,
	}
	encoded, err := env.Marshal()
	if err != nil {
		return nil, err
	}
	return &engine.Request{ExecutionID: first.ID.String(), Attempt: first.Attempt, Envelope: encoded, Body: body}, nil
}

// deepest is the entry that a batch's consequences are a consequence of: the one nearest to the end of its chain, so that
// no circle of scripts gets longer by way of a batch.
func deepest(entries []*outbox.Entry) *outbox.Entry {
	d := entries[0]
	for _, e := range entries {
		if e.Depth > d.Depth {
			d = e
		}
	}
	return d
}

func hasLost(entries []*outbox.Entry) bool {
	for _, e := range entries {
		if e.EngineLosses > 0 {
			return true
		}
	}
	return false
}

// share gives each entry its part of what happened to all: its failure, if it has one, and the log, which the first keeps
// for all.
func share(all Result, entries []*outbox.Entry, failures map[string]*fault.Fault) []Result {
	results := make([]Result, len(entries))
	for i, e := range entries {
		results[i] = all
		if i > 0 {
			results[i].Response = nil
			if all.Logs != nil {
				results[i].Logs = seeLogs(entries[0])
			}
		}
		if f := failures[e.ID.String()]; f != nil {
			results[i].Fault = f
		}
		if e.KeepAnswer {
			results[i].Answer = answerOf(results[i].Fault)
		}
	}
	return results
}

// seeLogs is the log of an entry whose run logged under another.
func seeLogs(e *outbox.Entry) []byte {
	logs := &logBook{limits: tenant.DefaultLimits()}
	logs.add([]engine.Log{{
		Time: time.Now(), Level: "info", Message: "this ran in a batch: its log is that of execution " + e.ID.String(),
	}})
	return logs.encode()
}

// batchAnswer takes the answer of a batch.
type batchAnswer struct {
	head engine.Head
	data []byte
	over bool // it was longer than what is kept
}

func (a *batchAnswer) Head(head engine.Head) error {
	a.head = head
	return nil
}

func (a *batchAnswer) Write(p []byte) (int, error) {
	room := collected
	if a.tellsOfFailures() {
		room = batchOutput
	}
	n := min(len(p), room-len(a.data))
	a.data = append(a.data, p[:n]...)
	a.over = a.over || n < len(p)
	return len(p), nil
}

// tellsOfFailures reports whether the script knows that it handled a batch. Any other answer says that all went well.
func (a *batchAnswer) tellsOfFailures() bool {
	for _, h := range a.head.Headers {
		if http.CanonicalHeaderKey(h.Name) == "Content-Type" {
			kind, _, err := mime.ParseMediaType(h.Value)
			return err == nil && kind == event.BatchContentType
		}
	}
	return false
}

// failures returns what the answer says of entries, by their ids.
func (a *batchAnswer) failures() (map[string]*fault.Fault, error) {
	if !a.tellsOfFailures() {
		return nil, nil
	}
	if a.over {
		return nil, fmt.Errorf("the result of the batch has more than %d bytes: shorten the errors in it", batchOutput)
	}
	result, err := event.ParseBatchResult(a.data)
	if err != nil {
		return nil, err
	}
	failures := make(map[string]*fault.Fault, len(result.Failures))
	for _, x := range result.Failures {
		f := fault.New(fault.ScriptError, fault.Script, "%s", x.Error)
		if x.Error == "" {
			f.Message = "the script said only that it failed"
		}
		f.RetryAfter, f.Fatal = retryAfter(x.RetryAfterMS), x.Fatal
		failures[x.ID] = f
	}
	return failures, nil
}

// belong says of which failure it cannot be told whose it is: any of the entries that the answer does not name may have failed.
func belong(failures map[string]*fault.Fault, entries []*outbox.Entry) error {
	strays := maps.Clone(failures)
	for _, e := range entries {
		delete(strays, e.ID.String())
	}
	for id, f := range strays {
		return fmt.Errorf("the result of the batch has a failure of %q, which is no message of it: name the id of the message (%s)", fault.Cut(id, 50), f.Message)
	}
	return nil
}

// retryAfter is a wait that a script asks for, within what a number can hold.
func retryAfter(ms int64) time.Duration {
	return time.Duration(max(0, min(ms, int64(tenant.MaxDelay/time.Millisecond)))) * time.Millisecond
}
