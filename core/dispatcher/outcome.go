package dispatcher

import (
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/deadletter"
	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// loneLosses is how many losses of an engine process that ran nothing else make an entry poison. Losses have counters of their own: a
// script must not pay for a node, nor the platform for a script.
const loneLosses = 3

// unavailablePause is how long an entry waits whose target could not be started.
const unavailablePause = time.Second

// A transactional run that another was in the way of has done nothing, and is no failure: while several work on the same rows, one of them
// gets on each time. Only one conflict in chargedConflicts counts as an attempt, so that a run which never gets through ends all the same.
const (
	chargedConflicts = 64
	conflictPause    = 250 * time.Millisecond // at most
)

// decide says what becomes of an entry after an attempt. Pure; random draws the jitter as rand.Int64N does.
func decide(e *outbox.Entry, res execution.Result, random func(int64) int64) *outbox.Settlement {
	s := &outbox.Settlement{
		Entry: e, Version: res.Version, Status: res.Status, Started: res.Started, Duration: res.Duration,
		Logs: res.Logs, Response: res.Response,
	}
	s.Outcome, s.Reason = outbox.Succeeded, ""
	switch f := res.Fault; {
	case f != nil:
		s.Reason, s.Error, s.Fault, s.KeepInput = string(f.Kind), f.Message, string(f.Origin), true
		if f.Detail != "" {
			s.Error += "\n" + f.Detail
		}
		fail(s, e, &res, random)
	case res.Absent:
		s.Outcome, s.Reason = outbox.Abandoned, "caller_gone"
	}
	if e.KeepAnswer && s.Outcome != outbox.Retried {
		s.Answer = res.Answer
	}
	return s
}

// fail decides about an attempt that failed.
func fail(s *outbox.Settlement, e *outbox.Entry, res *execution.Result, random func(int64) int64) {
	f := res.Fault
	switch {
	case f == errCancelled:
		s.Outcome, s.Reason = outbox.Cancelled, outbox.ReasonUser
		return
	case e.Sync(): // a caller waits, so it is never run again
		s.Outcome = outbox.Failed
		if res.Absent {
			s.Outcome = outbox.Abandoned
		}
		return
	case f.Kind == fault.Unavailable: // nothing was started
		s.Outcome, s.Uncharged, s.RetryIn = outbox.Retried, true, max(f.RetryAfter, unavailablePause)
		return
	case f.Kind == fault.Conflict && f.Origin == fault.Platform && e.MaxAttempts > 1 && random(chargedConflicts) > 0:
		s.Outcome, s.Uncharged, s.RetryIn = outbox.Retried, true, time.Duration(1+random(int64(conflictPause)))
		return
	case f.Kind == fault.Cancelled && (res.Version == 0 || e.MaxAttempts > 1): // the node gives it back, unless it may start once only
		s.Outcome, s.Uncharged = outbox.Retried, true
		return
	case e.HandlerFor != uuid.Nil: // the end of the line: a failing handler must not make work of its own
		s.Outcome = outbox.HandlerFailed
		return
	}
	s.EngineLost = f.Kind == fault.EngineLost
	switch {
	case res.Gone:
		s.Outcome, s.Reason = outbox.DeadLettered, outbox.ReasonTargetGone
	case res.Inactive:
		s.Outcome, s.Reason = outbox.DeadLettered, outbox.ReasonPrincipal
	case s.EngineLost && e.EngineLosses >= loneLosses: // the first loss was in company, these were not
		s.Outcome, s.Reason = outbox.DeadLettered, outbox.ReasonPoison
	case f.Kind == fault.Invalid && !readable(e):
		s.Outcome, s.Reason = outbox.DeadLettered, outbox.ReasonUndecodable
	case f.Fatal || f.Kind == fault.Invalid:
		s.Outcome, s.Reason = outbox.DeadLettered, outbox.ReasonFatal
	case e.Attempt >= e.MaxAttempts:
		s.Outcome, s.Reason = outbox.DeadLettered, outbox.ReasonExhausted
	default:
		s.Outcome, s.RetryIn = outbox.Retried, delay(e, f, random)
	}
	if s.Outcome == outbox.DeadLettered {
		s.Cause = deadletter.Cause(res.Version, string(f.Kind), f.Message)
	}
}

// readable reports whether the event of an entry that failed can be read at all.
func readable(e *outbox.Entry) bool {
	_, err := event.Unmarshal(e.Envelope)
	return err == nil
}

func delay(e *outbox.Entry, f *fault.Fault, random func(int64) int64) time.Duration {
	if f.RetryAfter > 0 {
		return min(f.RetryAfter, tenant.MaxDelay)
	}
	policy := retry.Default
	if e.Backoff != nil {
		policy = *e.Backoff
	}
	return policy.Delay(e.Attempt, random)
}
