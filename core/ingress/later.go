package ingress

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/event"
)

// Headers of requests that are sent again, and of answers to them.
const (
	keyHeader      = "Idempotency-Key"
	replayedHeader = "Idempotency-Replayed"
)

const respondAsync = "respond-async"

// prefersAsync reports whether the caller asks not to wait (RFC 7240).
func prefersAsync(h http.Header) bool {
	for _, value := range h.Values("Prefer") {
		for preference := range strings.SplitSeq(value, ",") {
			name, _, _ := strings.Cut(preference, ";")
			if strings.EqualFold(strings.TrimSpace(name), respondAsync) {
				return true
			}
		}
	}
	return false
}

// deliver has e delivered as the route's trigger says, or else as the script does. The error is a *tenant.Invalid.
func deliver(s *tenant.Snapshot, m tenant.Match, e *outbox.Entry, head *event.HTTP) error {
	lane := s.Lane(m.Script.ID)
	if t := s.HTTPTrigger(m.Route.ID); t != nil {
		if of := s.Lane(t.ID); of != nil {
			lane, e.Trigger = of, t.ID
		}
	}
	if lane == nil {
		return nil
	}
	return trigger.Apply(e, lane, nil, &trigger.Input{HTTP: head, Body: e.Payload})
}

// maxIdempotencyKey is in bytes.
const maxIdempotencyKey = 255

// idempotency is what makes a request that is sent again the same request; nil where it bears no key. Requests that only
// read may be sent again as they are.
func idempotency(route *tenant.Route, r *http.Request, body []byte) (*outbox.Idempotency, error) {
	keys := r.Header.Values(keyHeader)
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		return nil, nil
	}
	switch {
	case len(keys) == 0:
		return nil, nil
	case len(keys) > 1 || keys[0] == "" || len(keys[0]) > maxIdempotencyKey || !utf8.ValidString(keys[0]):
		return nil, fmt.Errorf("the header %s must be given once, with 1 to %d bytes of text", keyHeader, maxIdempotencyKey)
	}
	sum := sha256.New()
	add := func(part string) { // with its length, so that no part can pass for the end of another
		sum.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		sum.Write([]byte(part))
	}
	for _, part := range []string{r.Method, r.URL.Path, r.URL.RawQuery} {
		add(part)
	}
	for _, name := range []string{"Authorization", "Cookie", "Content-Type"} {
		add(strings.Join(r.Header.Values(name), "\x00"))
	}
	sum.Write(body)
	return &outbox.Idempotency{Scope: route.ID, Key: keys[0], Hash: sum.Sum(nil)}, nil
}

// offer gives an entry to the dispatcher. A request that was accepted before under the same key but ended before anything
// was started is accepted anew: its caller was told to try again.
func (in *Ingress) offer(ctx context.Context, e *outbox.Entry, take func(context.Context, *outbox.Entry) error) error {
	err := take(ctx, e)
	var first *outbox.Duplicate
	if !errors.As(err, &first) {
		return err
	}
	free, freeErr := in.cfg.Results.Free(ctx, e.App, e.Idempotency, first.Entry)
	if freeErr != nil {
		in.log.Warn("cannot look for an earlier request", "entry_id", first.Entry, "error", freeErr)
	}
	if !free {
		return err
	}
	return take(ctx, e)
}

// accept writes an async entry and tells the caller where its result will be found.
func (in *Ingress) accept(w http.ResponseWriter, r *http.Request, e *outbox.Entry) {
	if prefersAsync(r.Header) {
		w.Header().Set("Preference-Applied", respondAsync)
	}
	err := in.offer(r.Context(), e, in.cfg.Dispatcher.Append)
	var first *outbox.Duplicate
	switch {
	case err == nil:
		in.accepted(w, e.ID)
	case errors.As(err, &first):
		w.Header().Set(replayedHeader, "true")
		in.accepted(w, first.Entry)
	default:
		w.Header().Del("Preference-Applied")
		in.refused(err, e).write(w)
	}
}

// accepted answers a caller that does not wait.
func (in *Ingress) accepted(w http.ResponseWriter, id uuid.UUID) {
	url := resultsPath + id.String() + "?t=" + in.token(id)
	w.Header().Set(ExecutionHeader, id.String())
	w.Header().Set("Location", url)
	writeJSON(w, http.StatusAccepted, map[string]any{
		"execution_id": id, "accepted_at": outbox.AcceptedAt(id).UTC(), "result_url": url,
	})
}

// token is what proves that the bearer may see the result of an entry.
func (in *Ingress) token(id uuid.UUID) string {
	mac := hmac.New(sha256.New, in.cfg.Secret)
	mac.Write(id[:])
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// again answers a caller that waits for a request which was accepted before.
func (in *Ingress) again(w http.ResponseWriter, r *http.Request, e *outbox.Entry, first uuid.UUID) {
	w.Header().Set(ExecutionHeader, first.String())
	res, err := in.cfg.Results.Get(r.Context(), e.App, first)
	switch {
	case errors.Is(err, tenant.ErrNotFound):
		problem{
			Status: http.StatusConflict, Kind: "result_not_kept", Execution: first,
			Detail: "the request was accepted before, and its result is not known any more",
		}.write(w)
	case err != nil:
		in.unread(err, first).write(w)
	case res.Pending():
		problem{
			Status: http.StatusConflict, Kind: "in_flight", Execution: first, RetryAfter: time.Second,
			Detail: "the request was accepted before and still runs",
		}.write(w)
	case res.Answer == nil:
		problem{
			Status: http.StatusConflict, Kind: "result_not_kept", Execution: first,
			Detail: fmt.Sprintf("the request was accepted before; it ended as %s, and no result is kept", ended(res)),
		}.write(w)
	default:
		w.Header().Set(replayedHeader, "true")
		in.stored(first, res).write(w)
	}
}
