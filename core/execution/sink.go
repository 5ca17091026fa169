package execution

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/failpoint"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/sink"
)

// Sinks deliver outward.
type Sinks interface {
	// Deliver sends one item for app to a sink and waits for the answer. veil learns the secrets that the sink's configuration has.
	Deliver(ctx context.Context, app uuid.UUID, s *tenant.Sink, d *sink.Delivery, veil *secret.Veil) sink.Answer
}

// FindFunc finds a sink that an app may use; nil: it has none of this id.
type FindFunc func(app, id uuid.UUID) *tenant.Sink

// DeliverTo has entries whose target is a sink delivered.
func (r *Runner) DeliverTo(sinks Sinks, find FindFunc) { r.sinks, r.find = sinks, find }

// deliver is Run for an entry whose target is a sink. Nobody waits for it.
func (r *Runner) deliver(ctx context.Context, e *outbox.Entry) Result {
	res := Result{Started: time.Now()}
	ctx, cancel := context.WithDeadline(ctx, res.Started.Add(e.Timeout))
	defer cancel()
	to := r.sink(e)
	if to == nil {
		res.Gone, res.Fault = true, fault.New(fault.NotFound, fault.Caller, "the sink does not exist any more")
		res.Fault.Fatal = true
		return res
	}
	res.Version = to.Version
	item, err := delivery(e)
	if err != nil {
		res.Fault = fault.New(fault.Invalid, fault.Platform, "%v", err)
		res.Fault.Fatal = true
		return res
	}
	veil := &secret.Veil{}
	answer := r.sinks.Deliver(ctx, e.App, to, item, veil)
	failpoint.Hit(failpoint.RunReturned)
	res.Duration = time.Since(res.Started)
	logs := &logBook{limits: tenant.DefaultLimits(), veil: veil}
	for _, l := range answer.Logs {
		logs.add([]engine.Log{{Time: l.Time, Level: l.Level, Message: l.Message}})
	}
	res.Status, res.Logs = answer.Status, logs.encode()
	if f := answer.Fault; f != nil {
		switch cause := context.Cause(ctx); {
		case cause == nil || f.Fatal || f.Kind == fault.Invalid:
		case errors.Is(cause, context.DeadlineExceeded):
			f = fault.New(fault.Deadline, f.Origin, "the sink %q did not take it within %s: %s", to.Name, e.Timeout, f.Message)
		default:
			f = fault.From(cause)
		}
		res.Fault = veil.Fault(f)
	}
	return res
}

// deliverAll is RunBatch for entries whose target is a sink, all at one time: what it takes together it says itself.
func (r *Runner) deliverAll(ctx context.Context, entries []*outbox.Entry) []Result {
	results := make([]Result, len(entries))
	var all sync.WaitGroup
	for i, e := range entries {
		all.Go(func() { results[i] = r.deliver(ctx, e) })
	}
	all.Wait()
	return results
}

// sink is what an entry goes to, nil if it is gone.
func (r *Runner) sink(e *outbox.Entry) *tenant.Sink {
	if r.find == nil {
		return nil
	}
	return r.find(e.App, e.Target)
}

// occurrence is what a sink is given of an event that a trigger has brought: in the words of CloudEvents.
type occurrence struct {
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	Time       time.Time       `json:"time"`
	Source     string          `json:"source"`
	Subject    string          `json:"subject,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
	DataBase64 []byte          `json:"data_base64,omitempty"`
}

// delivery makes what a sink is given of an entry. The id is the event's, which attempts and replays have in common.
func delivery(e *outbox.Entry) (*sink.Delivery, error) {
	env, err := event.Unmarshal(e.Envelope)
	if err != nil {
		return nil, err
	}
	d := &sink.Delivery{
		EventID: e.EventID.String(), Attempt: e.Attempt, Type: env.Type, Time: env.Time.UTC(), ContentType: env.ContentType, Data: e.Payload,
	}
	if e.Trigger != uuid.Nil {
		o := occurrence{ID: d.EventID, Type: env.Type, Time: d.Time, Source: env.Source, Subject: env.Subject}
		switch {
		case len(e.Payload) == 0:
		case json.Valid(e.Payload):
			o.Data = e.Payload
		case utf8.Valid(e.Payload):
			o.Data, err = encoded(string(e.Payload))
		default:
			o.DataBase64 = e.Payload
		}
		d.ContentType = "application/json"
		if err == nil {
			d.Data, err = encoded(&o)
		}
		return d, err
	}
	if d.Type != trigger.SinkMessage { // a script says what it is: as CloudEvents do beside the data
		d.Headers = []event.Header{
			{Name: "Ce-Specversion", Value: "1.0"},
			{Name: "Ce-Id", Value: d.EventID},
			{Name: "Ce-Type", Value: d.Type},
			{Name: "Ce-Source", Value: env.Source},
			{Name: "Ce-Time", Value: d.Time.Format(time.RFC3339Nano)},
		}
	}
	return d, nil
}

// encoded is JSON in which angle brackets stay as they are: each of them would take five bytes more, of the few that a sink takes.
func encoded(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
