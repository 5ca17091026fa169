package ingress

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// grace is how long past its deadline an entry may take to be answered: the run is stopped at the deadline, its process
// killed a quarter of a second later.
const grace = time.Second

// answer takes a sync entry in and writes the reply of its run.
func (in *Ingress) answer(w http.ResponseWriter, r *http.Request, e *outbox.Entry) {
	waiter := in.cfg.Inbox.Register(e.ReplyTo)
	defer waiter.Close()
	if err := in.cfg.Dispatcher.Call(r.Context(), e); err != nil {
		in.refused(err, e).write(w)
		return
	}
	late := time.NewTimer(time.Until(e.AcceptedAt.Add(e.Timeout + grace)))
	defer late.Stop()
	part, err := waiter.Next(r.Context(), late.C)
	if err != nil {
		problem{
			Status: http.StatusGatewayTimeout, Kind: string(fault.Deadline), Execution: e.ID,
			Detail: fmt.Sprintf("no answer within %s", e.Timeout),
		}.write(w)
		return
	}
	if part.Head == nil {
		in.failed(part.Fault, e).write(w)
		return
	}
	if err := setHead(w.Header(), part.Head); err != nil {
		in.failed(fault.New(fault.InvalidResponse, fault.Script, "%v", err), e).write(w)
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
func (in *Ingress) failed(f *fault.Fault, e *outbox.Entry) problem {
	p := problem{Status: execution.Status(f), Kind: string(f.Kind), Execution: e.ID, Detail: f.Message, RetryAfter: f.RetryAfter}
	if !in.cfg.Verbose && (f.Kind == fault.ScriptError || f.Kind == fault.ScriptPanic || f.Origin == fault.Platform &&
		f.Kind == fault.Internal) {
		p.Detail = "the script failed; its error is in the record of the execution"
	}
	if p.Status == http.StatusServiceUnavailable && p.RetryAfter == 0 {
		p.RetryAfter = time.Second
	}
	return p
}
