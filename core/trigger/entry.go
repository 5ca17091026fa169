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
	e := &outbox.Entry{
		ID: id, EventID: id, RootID: id, App: lane.App, Kind: kind, AcceptedAt: env.Time, Envelope: encoded, Payload: data,
	}
	Aim(e, lane)
	return e, Apply(e, lane, o, &Input{HTTP: env.HTTP, Body: data})
}

// Aim sends an entry to what the entries of a lane go to.
func Aim(e *outbox.Entry, lane *tenant.Lane) {
	if s := lane.Sink; s != nil {
		e.Target, e.TargetKind, e.Timeout, e.MaxAttempts = s.ID, outbox.TargetSink, s.Timeout, s.MaxAttempts
		return
	}
	s := lane.Script
	e.Target, e.TargetKind, e.Timeout, e.MaxAttempts = s.ID, outbox.TargetScript, s.Timeout, s.MaxAttempts
}

// SinkMessage is the type of what a script sends to a sink without saying what it is.
const SinkMessage = "sink.message"

// Message is the envelope of a message to a queue.
func Message(queue, contentType string) event.Envelope {
	return event.Envelope{Type: "queue.message", Subject: queue, ContentType: contentType}
}
