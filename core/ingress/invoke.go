package ingress

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/dispatcher"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// Invoker calls scripts by name instead of by route: the same entry, the same line.
type Invoker struct {
	dispatcher Acceptor
	inbox      *inbox.Inbox
}

// NewInvoker makes an invoker.
func NewInvoker(d Acceptor, in *inbox.Inbox) *Invoker { return &Invoker{d, in} }

// Answer is what a script answered.
type Answer struct {
	Status  int
	Headers []event.Header
	Body    []byte
}

// Append takes an entry in that nobody waits for and returns after the commit. The error is as Accepted says.
func (i *Invoker) Append(ctx context.Context, e *outbox.Entry) error {
	return Accepted(i.dispatcher.Append(ctx, e))
}

// Call takes an entry in and waits for its whole answer, at most a moment past its deadline. The error is a
// *fault.Fault; what came of the answer before it is returned with it.
func (i *Invoker) Call(ctx context.Context, e *outbox.Entry) (Answer, error) {
	e.ReplyTo = uuid.New()
	waiter := i.inbox.Register(e.ReplyTo)
	defer waiter.Close()
	if err := Accepted(i.dispatcher.Call(ctx, e)); err != nil {
		return Answer{}, err
	}
	late := time.NewTimer(time.Until(e.AcceptedAt.Add(e.Timeout + grace)))
	defer late.Stop()
	var out Answer
	for {
		part, err := waiter.Next(ctx, late.C)
		if err != nil {
			return out, fault.New(fault.Deadline, fault.Platform, "no answer within %s", e.Timeout)
		}
		if part.Head != nil {
			out.Status, out.Headers = part.Head.Status, part.Head.Headers
		}
		out.Body = append(out.Body, part.Data...)
		switch {
		case part.Fault != nil:
			return out, part.Fault
		case part.End:
			return out, nil
		}
	}
}

// Accepted turns why an entry was not accepted into a fault. Conditions of core/outbox that callers act on stay as they are.
func Accepted(err error) error {
	var rejected *outbox.Rejected
	var overloaded *outbox.Overloaded
	var duplicate *outbox.Duplicate
	switch {
	case err == nil, errors.Is(err, outbox.ErrKeyReused), errors.Is(err, outbox.ErrBudget), errors.Is(err, outbox.ErrTooDeep), errors.As(err, &overloaded), errors.As(err, &duplicate):
		return err
	case errors.As(err, &rejected):
		return fault.New(fault.Invalid, fault.Caller, "the call cannot be stored: %v", err)
	case errors.Is(err, dispatcher.ErrPaused):
		f := fault.New(fault.Unavailable, fault.Caller, "the script, or its app, is paused")
		f.RetryAfter = pausedRetry
		return f
	case errors.Is(err, dispatcher.ErrBusy):
		f := fault.New(fault.Unavailable, fault.Platform, "every slot is taken")
		f.RetryAfter = time.Second
		return f
	}
	if errors.Is(err, outbox.ErrUnknown) {
		return fault.New(fault.Unavailable, fault.Platform, "%v", err)
	}
	return fault.New(fault.Unavailable, fault.Platform, "the call was not accepted: %v", err)
}
