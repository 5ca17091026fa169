package deadletter

import (
	"encoding/json"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/record"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/event"
)

// Letter is a dead letter with what its handlers inherit.
type Letter struct {
	record.DeadLetter
	App   uuid.UUID
	Depth int
}

// handled is what the handler of a dead letter is given as JSON.
type handled struct {
	ID         uuid.UUID    `json:"id"`
	Script     string       `json:"script"`         // that failed, or
	Sink       string       `json:"sink,omitempty"` // that did not take it
	Version    int          `json:"version"`
	Reason     string       `json:"reason"`
	Error      string       `json:"error"`
	Fault      string       `json:"fault"`
	Attempts   int          `json:"attempts"`
	Event      handledEvent `json:"event"`
	Payload    *string      `json:"payload,omitempty"`        // where it is text
	PayloadRaw []byte       `json:"payload_base64,omitempty"` // where it is not
	AcceptedAt time.Time    `json:"accepted_at"`
	CreatedAt  time.Time    `json:"created_at"`
}

type handledEvent struct {
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject,omitempty"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"content_type,omitempty"`
}

// FailureFunc makes the entries of those who are told of failures, whatever becomes of them. See lifecycle.Teller.
type FailureFunc func(s *tenant.Snapshot, x *outbox.Settlement) ([]*outbox.Entry, error)

// Handlers knows who asks for dead letters, in one version of the configuration.
type Handlers struct {
	snapshot *tenant.Snapshot
	failure  FailureFunc
	unfit    trigger.UnfitFunc
}

// NewHandlers returns those of snapshot.
func NewHandlers(snapshot *tenant.Snapshot, failure FailureFunc, unfit trigger.UnfitFunc) Handlers {
	return Handlers{snapshot, failure, unfit}
}

// Version is that of the configuration.
func (h Handlers) Version() int64 { return h.snapshot.Version }

// Apps lists those in which somebody asks for dead letters, or for failures.
func (h Handlers) Apps() []uuid.UUID {
	apps := []uuid.UUID{} // an array in the database, never null
	for app := range h.snapshot.Apps() {
		if len(h.snapshot.Triggers(app.ID, tenant.TriggerDeadLetter))+len(h.snapshot.Triggers(app.ID, tenant.TriggerApp)) > 0 {
			apps = append(apps, app.ID)
		}
	}
	return apps
}

// Expressions is how many a letter of an app may have to be held against.
func (h Handlers) Expressions(app uuid.UUID) (n int) {
	for _, kind := range []string{tenant.TriggerDeadLetter, tenant.TriggerApp} {
		for _, t := range h.snapshot.Triggers(app, kind) {
			if t.Filter.When != "" {
				n++
			}
		}
	}
	return n
}

// Of makes an entry for each trigger that asks for the letter, and for each that asks for failures, where whoever ran the event could not
// tell those. One that is deeper in a chain of events than may be must not be written.
func (h Handlers) Of(l *Letter) (entries []*outbox.Entry, err error) {
	var happened *trigger.Change
	for _, t := range h.snapshot.Triggers(l.App, tenant.TriggerDeadLetter) {
		if !wants(t, l) {
			continue
		}
		if happened == nil {
			data, err := json.Marshal(describe(l))
			if err != nil {
				return nil, err
			}
			happened = &trigger.Change{Kind: outbox.KindLetter, Key: l.TargetName, Data: data}
		}
		if trigger.Takes(t, happened, h.unfit) != nil {
			continue
		}
		e, err := handler(t, l, happened.Data)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	if l.Cause == CauseNodeLost || l.Cause == CauseNotStored {
		told, err := h.failure(h.snapshot, l.settlement())
		return append(entries, told...), err
	}
	return entries, nil
}

// settlement is how the letter's last attempt has ended.
func (l *Letter) settlement() *outbox.Settlement {
	e := &outbox.Entry{
		ID: l.ID, App: l.App, Target: l.Target, TargetKind: outbox.TargetScript, Kind: l.Kind, RootID: l.RootID, Depth: l.Depth,
		Attempt: l.Attempts, Envelope: l.Envelope,
	}
	if l.SinkName != "" {
		e.TargetKind = outbox.TargetSink
	}
	return &outbox.Settlement{
		Entry: e, Outcome: outbox.DeadLettered, Reason: l.Reason, Error: l.Error, Fault: l.Fault, Version: l.Version, Started: l.AcceptedAt,
	}
}

func wants(t *tenant.Trigger, l *Letter) bool {
	all := func(list []string, word string) bool { return len(list) == 0 || slices.Contains(list, word) }
	return all(t.Filter.Scripts, l.TargetName) && all(t.Filter.Reasons, l.Reason)
}

// handler makes the entry of one handler. It is tried once: what fails here must not make work of its own.
func handler(t *tenant.Trigger, l *Letter, data []byte) (*outbox.Entry, error) {
	env := event.Envelope{Type: "dead_letter", Subject: l.TargetName, ContentType: "application/json"}
	cause := &outbox.Entry{ID: l.ID, RootID: l.RootID, Depth: l.Depth, Principal: t.RegisteredBy, Envelope: l.Envelope}
	e, err := trigger.NewEntry(t.Lane, outbox.KindLetter, env, data, nil, cause)
	if err != nil {
		return nil, err
	}
	e.Trigger, e.HandlerFor, e.State, e.MaxAttempts = t.ID, l.ID, outbox.Ready, 1
	return e, nil
}

func describe(l *Letter) *handled {
	h := &handled{
		ID: l.ID, Script: l.TargetName, Sink: l.SinkName, Version: l.Version, Reason: l.Reason, Error: l.Error, Fault: l.Fault, Attempts: l.Attempts,
		AcceptedAt: l.AcceptedAt.UTC(), CreatedAt: l.CreatedAt.UTC(),
	}
	if env, err := event.Unmarshal(l.Envelope); err == nil { // one that cannot be read is why it is here
		h.Event = handledEvent{
			ID: env.ID, Source: env.Source, Type: env.Type, Subject: env.Subject, Time: env.Time.UTC(), ContentType: env.ContentType,
		}
	}
	if utf8.Valid(l.Payload) {
		text := string(l.Payload)
		h.Payload = &text
	} else {
		h.PayloadRaw = l.Payload
	}
	return h
}
