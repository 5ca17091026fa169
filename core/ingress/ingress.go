// Package ingress takes HTTP in on the public listener: host → app → route → entry, and the answer back. It stands at the
// beginning of the line and at its end: what it accepts goes to core/dispatcher, and what comes back arrives in
// core/inbox.
package ingress

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/semaphore"

	"github.com/picloud/picloud/core/dispatcher"
	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// Acceptor takes entries in.
type Acceptor interface {
	// Call takes a sync entry in; its reply comes to the inbox.
	Call(ctx context.Context, e *outbox.Entry) error
	// Append writes an async entry and returns after the commit.
	Append(ctx context.Context, e *outbox.Entry) error
}

// Dispatcher is what an ingress needs of the dispatcher.
type Dispatcher interface {
	Acceptor
	// Detach makes a running sync entry one that nobody waits for and whose answer is kept, durably. False: it does not
	// run. After an error it is not known.
	Detach(ctx context.Context, e *outbox.Entry) (bool, error)
}

// Config is what an ingress is made of.
type Config struct {
	Snapshot   func() *tenant.Snapshot // the configuration as it is now
	Dispatcher Dispatcher
	Inbox      *inbox.Inbox
	Results    Results
	Secret     []byte // what the tokens of results are made from
	Secrets    Secrets
	MaxBody    int64 // bytes of a request body
	// Verbose tells callers what a failed script said. Otherwise they learn only that it failed, and the id under
	// which the author finds the rest.
	Verbose bool
	Unfit   trigger.UnfitFunc // of triggers that requests are for
	Log     hclog.Logger
}

// Ingress is the handler of the public listener. Safe for concurrent use.
type Ingress struct {
	cfg Config
	log hclog.Logger

	bodyPatience time.Duration
	held         *semaphore.Weighted // bytes of large bodies
	heldWait     time.Duration

	seats    chan struct{} // of those who wait for a result
	draining chan struct{} // closed by Drain
	drain    sync.Once
}

// New makes an ingress.
func New(cfg Config) *Ingress {
	return &Ingress{
		cfg: cfg, log: cfg.Log.Named("ingress"), bodyPatience: bodyPatience,
		held: semaphore.NewWeighted(heldBytes), heldWait: heldWait,
		seats: make(chan struct{}, resultWaiters), draining: make(chan struct{}),
	}
}

// Drain has those who wait for a result answered with what is so now, since the server is about to end.
func (in *Ingress) Drain() { in.drain.Do(func() { close(in.draining) }) }

// ExecutionHeader names the execution that an answer comes from.
const ExecutionHeader = execution.IDHeader

// ServeHTTP answers a request from a script, or with a problem.
func (in *Ingress) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	snapshot := in.cfg.Snapshot()
	app := snapshot.AppForHost(r.Host)
	if app == nil {
		problem{Status: http.StatusNotFound, Kind: "no_app", Detail: "no app claims the host " + r.Host}.write(w)
		return
	}
	if name, is := strings.CutPrefix(r.URL.Path, resultsPath); is {
		in.result(w, r, app, name)
		return
	}
	if name, is := strings.CutPrefix(r.URL.Path, tenant.WebhooksPath); is {
		in.webhook(w, r, app, name)
		return
	}
	m := snapshot.Match(app, r.Host, r.Method, r.URL.Path)
	switch {
	case m.Route != nil:
	case len(m.Allow) > 0:
		w.Header().Set("Allow", strings.Join(m.Allow, ", "))
		problem{
			Status: http.StatusMethodNotAllowed, Kind: "method_not_allowed",
			Detail: "the route takes " + strings.Join(m.Allow, ", "),
		}.write(w)
		return
	default:
		problem{Status: http.StatusNotFound, Kind: "no_route", Detail: "no route matches " + r.Method + " " + r.URL.Path}.write(w)
		return
	}
	space := in.newSpace()
	defer space.free()
	body, err := in.readBody(w, r, space)
	if err != nil {
		bodyProblem(err, in.cfg.MaxBody).write(w)
		return
	}
	e, err := in.entry(snapshot, m, r, body)
	var invalid *tenant.Invalid
	switch {
	case errors.As(err, &invalid):
		problem{Status: http.StatusUnprocessableEntity, Kind: "invalid_key", Detail: err.Error()}.write(w)
		return
	case err != nil:
		problem{Status: http.StatusBadRequest, Kind: "bad_request", Detail: err.Error()}.write(w)
		return
	}
	w.Header().Set(ExecutionHeader, e.ID.String())
	failpoint.Hit(failpoint.HTTPAccepted)
	if !e.Sync() {
		in.accept(w, r, e)
		return
	}
	in.answer(w, r, e, m.Route.Wait)
}

// entry makes the entry for a request that matched a route. A *tenant.Invalid error says that the route's trigger can make
// no key of it.
func (in *Ingress) entry(s *tenant.Snapshot, m tenant.Match, r *http.Request, body []byte) (*outbox.Entry, error) {
	head := &event.HTTP{
		Method: r.Method, Host: r.Host, Path: r.URL.Path, Query: r.URL.RawQuery, RemoteAddr: r.RemoteAddr,
		Headers: headers(r.Header), Params: m.Params, Rest: m.Rest,
	}
	e, err := NewEntry(m.Script, outbox.KindHTTP, head, body)
	if err != nil {
		return nil, err
	}
	e.Trigger = m.Route.ID
	if e.Idempotency, err = idempotency(m.Route, r, body); err != nil {
		return nil, err
	}
	e.KeepAnswer = e.Idempotency != nil
	if m.Route.Mode != tenant.ModeAsync && !prefersAsync(r.Header) {
		e.ReplyTo = uuid.New() // 128 random bits: whoever can reply was told the id
		return e, nil
	}
	e.KeepAnswer = true
	return e, deliver(s, m, e, head)
}

// NewEntry makes an async entry that runs script for an HTTP request.
func NewEntry(script *tenant.Script, kind outbox.Kind, head *event.HTTP, body []byte) (*outbox.Entry, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	env := event.Envelope{
		ID: id.String(), Source: kind.String(), Type: "http.request", Subject: head.Path, Time: now, HTTP: head,
	}
	for _, h := range head.Headers {
		switch h.Name {
		case "Content-Type":
			env.ContentType = h.Value
		case "Traceparent":
			env.TraceParent = h.Value
		}
	}
	encoded, err := env.Marshal()
	if err != nil {
		return nil, err
	}
	return &outbox.Entry{
		ID: id, EventID: id, RootID: id, App: script.App, Lane: script.ID, Target: script.ID,
		TargetKind: outbox.TargetScript, Kind: kind, AcceptedAt: now, Timeout: script.Timeout,
		MaxAttempts: script.MaxAttempts, Envelope: encoded, Payload: body,
	}, nil
}

func headers(h http.Header) []event.Header {
	out := make([]event.Header, 0, len(h))
	for name, values := range h {
		if execution.HopByHop[name] {
			continue
		}
		for _, v := range values {
			out = append(out, event.Header{Name: name, Value: v})
		}
	}
	return out
}

// pausedRetry is when a caller should look again whether somebody has resumed what is paused.
const pausedRetry = 10 * time.Second

// refused explains why an entry was not accepted. A request is a first cause, so its chain is never too long.
func (in *Ingress) refused(err error, e *outbox.Entry) problem {
	p := problem{Execution: e.ID}
	var rejected *outbox.Rejected
	var overloaded *outbox.Overloaded
	switch {
	case errors.Is(err, dispatcher.ErrBusy):
		p.Status, p.Kind, p.Detail, p.RetryAfter = http.StatusServiceUnavailable, "busy", "every slot is taken", time.Second
	case errors.Is(err, dispatcher.ErrPaused):
		p.Status, p.Kind, p.Detail, p.RetryAfter = http.StatusServiceUnavailable, "paused", err.Error(), pausedRetry
	case errors.As(err, &overloaded):
		p.Status, p.Kind, p.Detail = http.StatusTooManyRequests, "overloaded", err.Error()
		p.RetryAfter = max(overloaded.RetryAfter, time.Second)
	case errors.Is(err, outbox.ErrKeyReused):
		p.Status, p.Kind, p.Execution = http.StatusUnprocessableEntity, "idempotency_key_reused", uuid.Nil
		p.Detail = err.Error() + ": another path, query, body, content type or caller needs another key"
	case errors.As(err, &rejected):
		p.Status, p.Kind, p.Detail = http.StatusBadRequest, "bad_request", "the request cannot be stored"
	case errors.Is(err, outbox.ErrUnknown):
		in.log.Warn("entry perhaps accepted", "entry_id", e.ID, "error", err)
		p.Status, p.Kind, p.RetryAfter = http.StatusServiceUnavailable, "unknown_outcome", time.Second
		p.Detail = "it is not known whether the request was accepted: send it again with an Idempotency-Key, or look for its execution"
	default:
		in.log.Warn("entry not accepted", "entry_id", e.ID, "error", err)
		p.Status, p.Kind, p.RetryAfter = http.StatusServiceUnavailable, string(fault.Unavailable), time.Second
		p.Detail = "the request was not accepted; try again"
	}
	return p
}
