package trigger

import (
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/sdk/event"
)

// NewEntry makes the entry of an event that nobody waits for, to be delivered as the lane's policy and o say. env gets its id, source, time
// and trace here. cause is the entry of the run that sends it, whose chain it lengthens and whose principal it has; nil: it is a first
// cause. A *tenant.Invalid says what is wrong with o or the keys.
func NewEntry(
	lane *tenant.Lane, kind outbox.Kind, env event.Envelope, data []byte, o *Options, cause *outbox.Entry,
) (*outbox.Entry, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	env.ID, env.Source, env.Time = id.String(), kind.String(), time.Now()
	if cause != nil {
		env.TraceParent = trace(cause)
	}
	encoded, err := env.Marshal()
	if err != nil {
		return nil, err
	}
	e := &outbox.Entry{
		ID: id, EventID: id, RootID: id, App: lane.App, Kind: kind, AcceptedAt: env.Time, Envelope: encoded, Payload: data,
	}
	if cause != nil {
		e.RootID, e.Depth, e.Principal = cause.RootID, cause.Depth+1, cause.Principal
		if e.RootID == uuid.Nil {
			e.RootID = cause.ID
		}
	}
	Aim(e, lane)
	return e, Apply(e, lane, o, &Input{HTTP: env.HTTP, Body: data})
}

// trace is the trace that an entry belongs to, or nothing.
func trace(e *outbox.Entry) string {
	env, err := event.Unmarshal(e.Envelope)
	if err != nil {
		return "" // the engine could not read it either
	}
	return env.TraceParent
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
