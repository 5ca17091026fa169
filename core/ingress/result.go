package ingress

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/execution"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/fault"
)

// Results finds what is kept of runs. Its methods are safe for concurrent use.
type Results interface {
	// Get returns how far an entry of app has come, or tenant.ErrNotFound.
	Get(ctx context.Context, app, id uuid.UUID) (*outbox.Result, error)
	// Free drops the idempotency key of an entry that ended before anything was started, and reports whether it did.
	Free(ctx context.Context, app uuid.UUID, key *outbox.Idempotency, entry uuid.UUID) (bool, error)
}

// resultsPath is where results are, on every host of their app.
const resultsPath = tenant.ReservedPrefix + "/results/"

// Bounds on waiting for a result.
const (
	maxResultWait   = time.Minute      // of one request
	maxResultStream = 15 * time.Minute // of one stream; the caller opens another
	resultWaiters   = 256              // on this node
	heartbeat       = 20 * time.Second
)

// The pauses between two looks for a result.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = time.Second
)

// result answers a request for the result of an entry.
func (in *Ingress) result(w http.ResponseWriter, r *http.Request, app *tenant.App, name string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer") // the address is a secret
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		problem{Status: http.StatusMethodNotAllowed, Kind: "method_not_allowed", Detail: "a result can only be read"}.write(w)
		return
	}
	query := r.URL.Query()
	id, err := uuid.Parse(name)
	if err != nil || !hmac.Equal([]byte(in.token(id)), []byte(query.Get("t"))) {
		noResult().write(w)
		return
	}
	wait, err := parseWait(query.Get("wait"))
	if err != nil {
		problem{Status: http.StatusBadRequest, Kind: "bad_request", Detail: err.Error()}.write(w)
		return
	}
	if wantsEvents(r.Header) {
		in.streamResult(w, r, app.ID, id)
		return
	}
	if wait > 0 {
		if !in.seat() {
			wait = 0 // who is told at once may ask again
		} else {
			defer in.rise()
		}
	}
	var res *outbox.Result
	for res, err = range in.follow(r.Context(), app.ID, id, wait) {
		if err != nil || !res.Pending() {
			break
		}
	}
	switch {
	case err != nil:
		in.unread(err, id).write(w)
	case res.Pending():
		h.Set(ExecutionHeader, id.String())
		h.Set("Retry-After", "1")
		writeJSON(w, http.StatusAccepted, map[string]any{"execution_id": id, "state": res.State.String()})
	default:
		h.Set(ExecutionHeader, id.String())
		in.stored(id, res).write(w)
	}
}

func noResult() problem {
	return problem{Status: http.StatusNotFound, Kind: "no_result", Detail: "there is no result under this address"}
}

// unread explains why a result was not found.
func (in *Ingress) unread(err error, id uuid.UUID) problem {
	if errors.Is(err, tenant.ErrNotFound) { // the address was given out, so the event was accepted
		return problem{
			Status: http.StatusGone, Kind: "result_gone", Execution: id,
			Detail: "the event has ended, and how is not known any more: answers are kept for a day, and as far as the app's share of stored bytes goes",
		}
	}
	in.log.Warn("cannot read a result", "entry_id", id, "error", err)
	return problem{
		Status: http.StatusServiceUnavailable, Kind: string(fault.Unavailable), RetryAfter: time.Second,
		Detail: "the result cannot be read now; try again",
	}
}

// parseWait reads how long a caller would wait: a duration, or a number of seconds.
func parseWait(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if n, numErr := strconv.ParseUint(s, 10, 16); numErr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("wait=%q is no duration; an example is wait=30s", s)
	}
	return min(d, maxResultWait), nil
}

func wantsEvents(h http.Header) bool {
	for _, value := range h.Values("Accept") {
		for part := range strings.SplitSeq(value, ",") {
			name, _, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(name), "text/event-stream") {
				return true
			}
		}
	}
	return false
}

// seat takes one of the places of those who wait for a result; rise gives it back.
func (in *Ingress) seat() bool {
	select {
	case in.seats <- struct{}{}:
		return true
	default:
		return false
	}
}

func (in *Ingress) rise() { <-in.seats }

// follow yields how far an entry has come: at once, and then again and again until limit has passed, ctx ends, or the
// server is about to. After limit it looks once more. An error is the last that it yields.
func (in *Ingress) follow(ctx context.Context, app, id uuid.UUID, limit time.Duration) iter.Seq2[*outbox.Result, error] {
	return func(yield func(*outbox.Result, error) bool) {
		res, err := in.cfg.Results.Get(ctx, app, id)
		if !yield(res, err) || err != nil || limit == 0 {
			return
		}
		over := time.NewTimer(limit)
		defer over.Stop()
		next := time.NewTimer(firstPause)
		defer next.Stop()
		for pause, last := firstPause, false; !last; {
			select {
			case <-next.C:
			case <-over.C:
				last = true
			case <-in.draining:
				return
			case <-ctx.Done():
				return
			}
			res, err := in.cfg.Results.Get(ctx, app, id)
			if !yield(res, err) || err != nil {
				return
			}
			pause = min(pause*3/2, lastPause)
			next.Reset(pause)
		}
	}
}

// streamResult tells of each change of an entry's state, and then of its result, as server-sent events.
func (in *Ingress) streamResult(w http.ResponseWriter, r *http.Request, app, id uuid.UUID) {
	if !in.seat() {
		problem{
			Status: http.StatusTooManyRequests, Kind: "too_many_waiters", RetryAfter: time.Second,
			Detail: "too many callers wait for results; ask for this one without waiting",
		}.write(w)
		return
	}
	defer in.rise()
	out := eventWriter{w: w, control: http.NewResponseController(w)}
	state := ""
	for res, err := range in.follow(r.Context(), app, id, maxResultStream) {
		if err != nil {
			if !out.begun {
				in.unread(err, id).write(w)
			}
			return // the caller comes back
		}
		if !out.begun {
			w.Header().Set(ExecutionHeader, id.String())
			out.begin()
		}
		if !res.Pending() {
			_ = out.send("result", in.stored(id, res).event())
			return
		}
		if s := res.State.String(); s != state {
			state = s
			err = out.send("state", map[string]any{"execution_id": id, "state": state})
		} else {
			err = out.beat()
		}
		if err != nil {
			return
		}
	}
}

// eventWriter writes server-sent events.
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
	last    time.Time // something was written
}

func (o *eventWriter) begin() {
	o.begun = true
	o.w.Header().Set("Content-Type", "text/event-stream")
	o.w.Header().Set("X-Content-Type-Options", "nosniff")
	o.w.WriteHeader(http.StatusOK)
}

func (o *eventWriter) send(name string, data any) error {
	encoded, err := json.Marshal(data) // on one line
	if err != nil {
		return err
	}
	return o.write("event: " + name + "\ndata: " + string(encoded) + "\n\n")
}

// beat keeps proxies from taking a quiet stream for a dead one.
func (o *eventWriter) beat() error {
	if time.Since(o.last) < heartbeat {
		return nil
	}
	return o.write(": waiting\n\n")
}

func (o *eventWriter) write(s string) error {
	o.last = time.Now()
	if _, err := o.w.Write([]byte(s)); err != nil {
		return err
	}
	return o.control.Flush()
}

// stored is the answer to whoever asks for the result of an entry that has ended.
func (in *Ingress) stored(id uuid.UUID, res *outbox.Result) response {
	a := res.Answer
	switch {
	case a == nil:
		return noAnswer(id, res).response()
	case a.Kind == execution.TooLarge:
		return problem{Status: http.StatusInsufficientStorage, Kind: a.Kind, Detail: a.Error, Execution: id}.response()
	case a.Kind != "":
		p := in.failed(&fault.Fault{Kind: fault.Kind(a.Kind), Origin: fault.Platform, Message: a.Error}, id)
		p.Status, p.RetryAfter = a.Status, 0 // asking again changes nothing
		return p.response()
	}
	out := response{status: a.Status, header: http.Header{}, body: a.Body}
	if err := setHead(out.header, &engine.Head{Status: a.Status, Headers: a.Headers}); err != nil {
		return in.failed(fault.New(fault.InvalidResponse, fault.Script, "%v", err), id).response()
	}
	return out
}

// noAnswer explains how an entry ended of which no answer is kept.
func noAnswer(id uuid.UUID, res *outbox.Result) problem {
	p := problem{Status: http.StatusGone, Kind: res.Outcome.String(), Execution: id, Detail: "the event ended as " + ended(res)}
	switch res.Outcome {
	case outbox.Succeeded:
		p.Kind, p.Detail = "result_gone", "the script has answered, and its answer is not kept any more"
	case outbox.DeadLettered, outbox.HandlerFailed, outbox.Failed:
		p.Status = http.StatusBadGateway
	}
	return p
}

// ended says in words how an entry ended.
func ended(res *outbox.Result) string {
	if res.Reason == "" {
		return res.Outcome.String()
	}
	return res.Outcome.String() + " (" + res.Reason + ")"
}

// response is a whole answer.
type response struct {
	status int
	header http.Header
	body   []byte
}

func (a response) write(w http.ResponseWriter) {
	h := w.Header()
	for name, values := range a.header {
		h[name] = values
	}
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // a caller that is gone needs no answer
}

// event is the answer as the data of a server-sent event.
func (a response) event() any {
	type header struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	out := struct {
		Status     int      `json:"status"`
		Headers    []header `json:"headers"`
		Body       *string  `json:"body,omitempty"`
		BodyBase64 []byte   `json:"body_base64,omitempty"`
	}{Status: a.status, Headers: []header{}}
	for _, h := range headers(a.header) {
		out.Headers = append(out.Headers, header(h))
	}
	if utf8.Valid(a.body) {
		text := string(a.body)
		out.Body = &text
	} else {
		out.BodyBase64 = a.body
	}
	return out
}
