package picloud

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// Message is one event of a batch.
type Message struct {
	ID      string // what ctx.ExecutionID would be if it came alone: the same over its attempts
	Attempt int    // of this event; others of the batch may have another
	Event   Event
	Body    []byte
}

// JSON decodes the body into v.
func (m *Message) JSON(v any) error {
	if err := json.Unmarshal(m.Body, v); err != nil {
		return fmt.Errorf("the body is not the JSON that is expected: %w", err)
	}
	return nil
}

// BatchResult is what Handle returns to say that some events of a batch failed; the others are done. Anything else that
// it returns says that all are done, an error that none is.
type BatchResult struct{ Failures []Failure }

// Failure is an event of a batch that failed.
type Failure struct {
	ID         string        // of the Message
	Error      string        // what went wrong; beyond 8 KiB it is cut
	RetryAfter time.Duration // try again after this; zero: as the back-off says
	Fatal      bool          // do not try again
}

// Batch returns the events of a run that handles several, in the order of their lane; nil in a run that handles one.
// A queue or trigger with a batch policy may bring a single event in a batch too, when no other came in time.
func (c *Context) Batch() []Message { return c.batch }

// messages reads the body of a run for several events.
func messages(r Runtime, body []byte) []Message {
	var b event.Batch
	if err := json.Unmarshal(body, &b); err != nil { // the host made it, so this is a defect of the platform
		r.Log("error", "the batch cannot be read: "+err.Error(), nil)
		return nil
	}
	list := make([]Message, len(b.Items))
	for i := range b.Items {
		item := &b.Items[i]
		h := &item.Event
		list[i] = Message{
			ID: item.ID, Attempt: item.Attempt, Body: item.Data(),
			Event: Event{
				ID: h.ID, Source: h.Source, Type: h.Type, Subject: h.Subject, Time: h.Time, ContentType: h.ContentType,
			},
		}
	}
	return list
}

// failureText bounds what is told of one failure, so that a full batch of them can be sent.
const failureText = 8 << 10

// encode makes the body of the answer that tells the platform of r.
func (r *BatchResult) encode() ([]byte, error) {
	out := event.BatchResult{Failures: make([]event.BatchFailure, len(r.Failures))}
	for i, f := range r.Failures {
		out.Failures[i] = event.BatchFailure{
			ID: f.ID, Error: fault.Cut(f.Error, failureText), RetryAfterMS: max(0, milliseconds(f.RetryAfter)),
			Fatal: f.Fatal,
		}
	}
	return json.Marshal(out)
}
