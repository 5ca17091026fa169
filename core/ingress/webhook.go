package ingress

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/core/webhook"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// Secrets knows what apps keep secret. Whatever an app does not have is tenant.ErrNotFound.
type Secrets interface {
	Get(ctx context.Context, app uuid.UUID, name string) (json.RawMessage, error)
}

// webhook answers a request to a trigger of kind webhook, or one of kind email that takes requests. It is accepted durably, or the sender is told to come again.
func (in *Ingress) webhook(w http.ResponseWriter, r *http.Request, app *tenant.App, name string) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		problem{Status: http.StatusMethodNotAllowed, Kind: "method_not_allowed", Detail: "a webhook takes POST"}.write(w)
		return
	}
	t := in.webhookNamed(app, name)
	if t == nil {
		problem{Status: http.StatusNotFound, Kind: "no_webhook", Detail: "there is no webhook under this address"}.write(w)
		return
	}
	body, err := in.readBody(w, r)
	if err != nil {
		bodyProblem(err, in.cfg.MaxBody).write(w)
		return
	}
	delivery, p := in.verify(r, t, body)
	if p != nil {
		p.write(w)
		return
	}
	if delivery.Challenge != "" {
		writeJSON(w, http.StatusOK, map[string]any{"challenge": delivery.Challenge})
		return
	}
	e, p := in.hooked(t, r, body, delivery)
	switch {
	case p != nil:
		p.write(w)
	case e == nil: // an error would have the sender try it again, or give the webhook up
		writeJSON(w, http.StatusOK, map[string]any{"accepted": false, "detail": "the trigger does not take this event"})
	default:
		in.take(w, r, e)
	}
}

func (in *Ingress) webhookNamed(app *tenant.App, name string) *tenant.Trigger {
	snapshot := in.cfg.Snapshot()
	for _, t := range slices.Concat(snapshot.Triggers(app.ID, tenant.TriggerWebhook), snapshot.Triggers(app.ID, tenant.TriggerEmail)) {
		if t.Name == name && t.Filter.Signature != "" {
			return t
		}
	}
	return nil
}

// verify says who sends, or why that is not who should.
func (in *Ingress) verify(r *http.Request, t *tenant.Trigger, body []byte) (webhook.Delivery, *problem) {
	var keys []string
	if t.Filter.Secret != "" {
		secret, err := in.cfg.Secrets.Get(r.Context(), t.App, t.Filter.Secret)
		if err == nil {
			keys, err = webhook.Keys(&t.Filter, secret)
		}
		if err != nil {
			in.log.Warn("the key of a webhook cannot be used", "trigger", t.Name, "secret", t.Filter.Secret, "error", err)
			return webhook.Delivery{}, &problem{
				Status: http.StatusServiceUnavailable, Kind: string(fault.Unavailable), RetryAfter: time.Minute,
				Detail: "the signature cannot be checked now; try again",
			}
		}
	}
	delivery, err := webhook.Verify(&t.Filter, keys, r.Header, body, time.Now())
	if err != nil {
		return delivery, &problem{Status: http.StatusUnauthorized, Kind: "bad_signature", Detail: err.Error()}
	}
	return delivery, nil
}

// hooked makes the entry of a request whose sender is known; none if the trigger does not take it.
func (in *Ingress) hooked(t *tenant.Trigger, r *http.Request, body []byte, d webhook.Delivery) (*outbox.Entry, *problem) {
	change := happened(r, body, d)
	if t.Kind == tenant.TriggerEmail {
		var err error
		d.ID = cmp.Or(d.ID, messageID(body))
		if change, err = trigger.Mail(body); err != nil {
			return nil, &problem{Status: http.StatusUnprocessableEntity, Kind: "invalid", Detail: "the body " + strings.TrimPrefix(err.Error(), "data: ")}
		}
	}
	if t.Filter.When != "" && len(body) > trigger.MaxData {
		return nil, &problem{
			Status: http.StatusRequestEntityTooLarge, Kind: "body_too_large",
			Detail: "the body is larger than the 1 MiB that the expression of a trigger may look into",
		}
	}
	if trigger.Takes(t, change, in.cfg.Unfit) != nil {
		return nil, nil
	}
	e, err := trigger.Caused(t, change, nil)
	switch invalid := (*tenant.Invalid)(nil); {
	case errors.As(err, &invalid):
		return nil, &problem{Status: http.StatusUnprocessableEntity, Kind: "invalid_key", Detail: err.Error()}
	case err != nil:
		return nil, &problem{Status: http.StatusBadRequest, Kind: "bad_request", Detail: err.Error()}
	}
	if d.ID != "" && len(d.ID) <= maxIdempotencyKey {
		// What is sent again under an id is the same delivery, however it is written.
		e.Idempotency = &outbox.Idempotency{Scope: t.ID, Key: d.ID, Hash: t.ID[:]}
	}
	return e, nil
}

// messageID is that of a message of e-mail, or nothing.
func messageID(mail []byte) string {
	var m struct {
		ID string `json:"message_id"`
	}
	_ = json.Unmarshal(mail, &m) // what is no message is refused for it
	return m.ID
}

// happened is what a request of another service says.
func happened(r *http.Request, body []byte, d webhook.Delivery) *trigger.Change {
	c := &trigger.Change{
		Kind: outbox.KindHook, Data: body, ContentType: r.Header.Get("Content-Type"),
		HTTP: &event.HTTP{
			Method: r.Method, Host: r.Host, Path: r.URL.Path, Query: r.URL.RawQuery, RemoteAddr: r.RemoteAddr, Headers: headers(r.Header),
		},
	}
	if tenant.CheckTopic(d.Event) == nil {
		c.Topic = d.Event
	}
	return c
}

// take writes an entry and tells its sender that it is safe.
func (in *Ingress) take(w http.ResponseWriter, r *http.Request, e *outbox.Entry) {
	err := in.offer(r.Context(), e, in.cfg.Dispatcher.Append)
	first, id := (*outbox.Duplicate)(nil), e.ID
	if errors.As(err, &first) {
		w.Header().Set(replayedHeader, "true")
		err, id = nil, first.Entry
	}
	if err != nil {
		in.refused(err, e).write(w)
		return
	}
	w.Header().Set(ExecutionHeader, id.String())
	writeJSON(w, http.StatusAccepted, map[string]any{"accepted": true, "execution_id": id})
}
