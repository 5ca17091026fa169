package dispatcher

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/sdk/fault"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	longest := func(n int64) int64 { return n - 1 }
	failed := func(kind fault.Kind) *fault.Fault { return fault.New(kind, fault.Script, "m") }
	type want struct {
		outcome   outbox.Outcome
		reason    string
		in        time.Duration
		uncharged bool
	}
	for name, c := range map[string]struct {
		entry  outbox.Entry
		result execution.Result
		want   want
	}{
		"success":             {outbox.Entry{}, execution.Result{}, want{outcome: outbox.Succeeded}},
		"sync, caller left":   {outbox.Entry{ReplyTo: uuid.New()}, execution.Result{Absent: true}, want{outbox.Abandoned, "caller_gone", 0, false}},
		"sync, script failed": {outbox.Entry{ReplyTo: uuid.New()}, execution.Result{Fault: failed(fault.ScriptError)}, want{outbox.Failed, "script_error", 0, false}},
		"first failure":       {outbox.Entry{Attempt: 1, MaxAttempts: 5}, execution.Result{Fault: failed(fault.ScriptPanic)}, want{outbox.Retried, "script_panic", time.Second, false}},
		"own policy": {
			outbox.Entry{Attempt: 2, MaxAttempts: 5, Backoff: &retry.Policy{Kind: retry.Linear, Base: retry.Duration(time.Minute)}},
			execution.Result{Fault: failed(fault.Deadline)},
			want{outbox.Retried, "deadline", 2 * time.Minute, false},
		},
		"undecodable": {
			outbox.Entry{Attempt: 1, MaxAttempts: 5, Envelope: []byte("?")},
			execution.Result{Fault: failed(fault.Invalid)},
			want{outbox.DeadLettered, "undecodable", 0, false},
		},
		"asked to wait": {
			outbox.Entry{Attempt: 1, MaxAttempts: 5},
			execution.Result{Fault: &fault.Fault{Kind: fault.ScriptError, RetryAfter: time.Hour}},
			want{outbox.Retried, "script_error", time.Hour, false},
		},
		"overtaken": {outbox.Entry{Attempt: 5, MaxAttempts: 5}, execution.Result{Fault: errConflict}, want{outbox.Retried, "conflict", conflictPause, true}},
		"overtaken, may start once": {
			outbox.Entry{Attempt: 1, MaxAttempts: 1}, execution.Result{Fault: errConflict}, want{outbox.DeadLettered, outbox.ReasonExhausted, 0, false},
		},
		"a conflict of the script's own": {
			outbox.Entry{Attempt: 5, MaxAttempts: 5}, execution.Result{Fault: failed(fault.Conflict)}, want{outbox.DeadLettered, outbox.ReasonExhausted, 0, false},
		},
		"last failure": {outbox.Entry{Attempt: 5, MaxAttempts: 5}, execution.Result{Fault: failed(fault.ScriptError)}, want{outbox.DeadLettered, outbox.ReasonExhausted, 0, false}},
		"fatal": {
			outbox.Entry{Attempt: 1, MaxAttempts: 5},
			execution.Result{Fault: &fault.Fault{Kind: fault.Compile, Fatal: true}},
			want{outbox.DeadLettered, outbox.ReasonFatal, 0, false},
		},
		"target gone": {
			outbox.Entry{Attempt: 1, MaxAttempts: 5},
			execution.Result{Gone: true, Fault: failed(fault.NotFound)},
			want{outbox.DeadLettered, outbox.ReasonTargetGone, 0, false},
		},
		"engine lost":         {outbox.Entry{Attempt: 1, MaxAttempts: 9}, execution.Result{Fault: failed(fault.EngineLost)}, want{outbox.Retried, "engine_lost", time.Second, false}},
		"lost alone, twice":   {outbox.Entry{Attempt: 3, MaxAttempts: 9, EngineLosses: 2}, execution.Result{Fault: failed(fault.EngineLost)}, want{outbox.Retried, "engine_lost", 4 * time.Second, false}},
		"lost alone, thrice":  {outbox.Entry{Attempt: 4, MaxAttempts: 9, EngineLosses: 3}, execution.Result{Fault: failed(fault.EngineLost)}, want{outbox.DeadLettered, outbox.ReasonPoison, 0, false}},
		"nothing was started": {outbox.Entry{Attempt: 5, MaxAttempts: 5}, execution.Result{Fault: failed(fault.Unavailable)}, want{outbox.Retried, "unavailable", unavailablePause, true}},
		"node stops":          {outbox.Entry{Attempt: 5, MaxAttempts: 5}, execution.Result{Fault: errShutdown}, want{outbox.Retried, "cancelled", 0, true}},
		"node stops, to start once": {
			outbox.Entry{Attempt: 1, MaxAttempts: 1},
			execution.Result{Version: 1, Fault: errShutdown},
			want{outbox.DeadLettered, outbox.ReasonExhausted, 0, false},
		},
		"node stops before the start": {
			outbox.Entry{Attempt: 1, MaxAttempts: 1}, execution.Result{Fault: errShutdown}, want{outbox.Retried, "cancelled", 0, true},
		},
	} {
		s := decide(&c.entry, c.result, longest)
		if got := (want{s.Outcome, s.Reason, s.RetryIn, s.Uncharged}); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if s.Outcome != outbox.Succeeded && c.result.Fault != nil && !s.KeepInput {
			t.Errorf("%s: the input of a failure is not kept", name)
		}
	}
	counted := decide(&outbox.Entry{Attempt: 5, MaxAttempts: 5}, execution.Result{Fault: errConflict}, func(int64) int64 { return 0 })
	if counted.Outcome != outbox.DeadLettered {
		t.Errorf("no conflict counts: %+v", counted)
	}
}
