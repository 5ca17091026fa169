package ingress

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// grace is how long past its deadline an entry may take to be answered: the run is stopped at the deadline, its process
// killed a quarter of a second later.
const grace = time.Second

// detachLimit bounds how long a run is held while its entry becomes one that nobody waits for.
const detachLimit = 2 * time.Second

// answer takes a sync entry in and writes the reply of its run. A caller that has waited for wait is told where it will
// find the result; zero: it waits for the end.
func (in *Ingress) answer(w http.ResponseWriter, r *http.Request, e *outbox.Entry, wait time.Duration) {
	waiter := in.cfg.Inbox.Register(e.ReplyTo)
	defer waiter.Close()
	if err := in.offer(r.Context(), e, in.cfg.Dispatcher.Call); err != nil {
		var first *outbox.Duplicate
		if errors.As(err, &first) {
			in.again(w, r, e, first.Entry)
			return
		}
		in.refused(err, e).write(w)
		return
	}
	late := time.NewTimer(time.Until(e.AcceptedAt.Add(e.Timeout + grace)))
	defer late.Stop()
	part, err := in.first(r.Context(), waiter, e, wait, late.C)
	if errors.Is(err, errDetached) {
		in.accepted(w, e.ID)
		return
	}
	if err != nil {
		problem{
			Status: http.StatusGatewayTimeout, Kind: string(fault.Deadline), Execution: e.ID,
			Detail: fmt.Sprintf("no answer within %s", e.Timeout),
		}.write(w)
		return
	}
	if part.Head == nil {
		in.failed(part.Fault, e.ID).write(w)
		return
	}
	if err := setHead(w.Header(), part.Head); err != nil {
		in.failed(fault.New(fault.InvalidResponse, fault.Script, "%v", err), e.ID).write(w)
		return
	}
	if part.End && part.Fault == nil {
		w.Header().Set("Content-Length", strconv.Itoa(len(part.Data)))
		w.WriteHeader(part.Head.Status)
		_, _ = w.Write(part.Data) // the caller may be gone; the run has ended all the same
		return
	}
	w.WriteHeader(part.Head.Status)
	in.stream(w, part, e, func() (inbox.Part, error) { return waiter.Next(r.Context(), late.C) })
}

// errDetached says that the run goes on without its caller.
var errDetached = errors.New("the run goes on without its caller")

// first waits for the first part of the reply, or for the time after which the caller need not wait. An entry that could
// not be told to go on alone, since it is not stored yet, is asked again later.
func (in *Ingress) first(
	ctx context.Context, waiter *inbox.Waiter, e *outbox.Entry, wait time.Duration, late <-chan time.Time,
) (inbox.Part, error) {
	for ; wait > 0 && wait < e.Timeout; wait *= 2 {
		enough := time.NewTimer(time.Until(e.AcceptedAt.Add(wait)))
		part, err := waiter.Next(ctx, enough.C)
		enough.Stop()
		if !errors.Is(err, inbox.ErrLate) {
			return part, err
		}
		if in.detach(ctx, waiter, e) {
			return inbox.Part{}, errDetached
		}
	}
	return waiter.Next(ctx, late)
}

// detach makes a running entry one that nobody waits for. Its reply is held meanwhile, so it is not answered twice. The
// caller may leave meanwhile: what was begun is brought to its end.
func (in *Ingress) detach(ctx context.Context, waiter *inbox.Waiter, e *outbox.Entry) bool {
	if !waiter.Hold() {
		return false // the answer is on its way
	}
	became := inbox.InDoubt
	defer func() { waiter.Release(became) }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detachLimit)
	defer cancel()
	done, err := in.cfg.Dispatcher.Detach(ctx, e)
	switch {
	case err != nil:
		in.log.Warn("not known whether a run goes on without its caller", "entry_id", e.ID, "error", err)
	case done:
		became = inbox.Detached
	default:
		became = inbox.Attached
	}
	return became == inbox.Detached
}

// stream writes an answer that comes in more than one part.
func (in *Ingress) stream(
	w http.ResponseWriter, part inbox.Part, e *outbox.Entry, next func() (inbox.Part, error),
) {
	flush := http.NewResponseController(w)
	for {
		if len(part.Data) > 0 {
			if _, err := w.Write(part.Data); err != nil {
				return // the caller is gone; Close ends the run
			}
		}
		if part.Fault != nil {
			in.log.Debug("answer cut short", "entry_id", e.ID, "error", part.Fault)
			panic(http.ErrAbortHandler) // the only way left to say that the answer is not whole
		}
		if part.End {
			return
		}
		if err := flush.Flush(); err != nil {
			return
		}
		var err error
		if part, err = next(); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// setHead checks a script's head and copies it.
func setHead(h http.Header, head *engine.Head) error {
	if err := execution.CheckHead(head); err != nil {
		return err
	}
	for _, x := range head.Headers {
		h.Add(x.Name, x.Value)
	}
	if h.Get("X-Content-Type-Options") == "" {
		h.Set("X-Content-Type-Options", "nosniff")
	}
	return nil
}

// failed explains a fault to the caller.
func (in *Ingress) failed(f *fault.Fault, id uuid.UUID) problem {
	p := problem{Status: execution.Status(f), Kind: string(f.Kind), Execution: id, Detail: f.Message, RetryAfter: f.RetryAfter}
	if !in.cfg.Verbose && (f.Kind == fault.ScriptError || f.Kind == fault.ScriptPanic || f.Origin == fault.Platform &&
		f.Kind == fault.Internal) {
		p.Detail = "the script failed; its error is in the record of the execution"
	}
	if p.Status == http.StatusServiceUnavailable && p.RetryAfter == 0 {
		p.RetryAfter = time.Second
	}
	return p
}
