package trigger

import (
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
)

// NewEntry makes the entry of an event that nobody waits for: its own event and root, to be delivered as the lane's policy
// and o say. env gets its id, source and time here. A *tenant.Invalid says what is wrong with o or the keys.
func NewEntry(lane *tenant.Lane, kind outbox.Kind, env event.Envelope, data []byte, o *Options) (*outbox.Entry, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	env.ID, env.Source, env.Time = id.String(), kind.String(), time.Now()
	encoded, err := env.Marshal()
	if err != nil {
		return nil, err
	}
	script := lane.Script
	e := &outbox.Entry{
		ID: id, EventID: id, RootID: id, App: lane.App, Target: script.ID, TargetKind: outbox.TargetScript, Kind: kind,
		AcceptedAt: env.Time, Timeout: script.Timeout, MaxAttempts: script.MaxAttempts, Envelope: encoded, Payload: data,
	}
	return e, Apply(e, lane, o, &Input{HTTP: env.HTTP, Body: data})
}

// Message is the envelope of a message to a queue.
func Message(queue, contentType string) event.Envelope {
	return event.Envelope{Type: "queue.message", Subject: queue, ContentType: contentType}
}
