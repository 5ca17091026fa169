package service

import (
	"context"
	"encoding/json"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/mail"
)

// maxType is how long the type of an event may be that a script names, in bytes.
const maxType = 255

// sinkSend sends a message to a sink of the app. A text is sent as it is, anything else as JSON.
func (c *call) sinkSend(ctx context.Context, args []byte) (any, error) {
	var in struct {
		Sink    string          `json:"sink"`
		Message json.RawMessage `json:"message"`
		Type    string          `json:"type"`
		delivery
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if err := c.mayCause(); err != nil {
		return nil, err
	}
	odd := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	for i, r := range in.Type {
		if odd(r) || r == utf8.RuneError || i >= maxType {
			return nil, invalid("type: is no word of at most %d bytes, such as order.paid", maxType)
		}
	}
	snapshot := c.snapshot()
	to := snapshot.SinkNamed(c.run.Entry.App, in.Sink)
	if to == nil {
		return nil, fault.New(fault.NotFound, fault.Script, "there is no sink %q in this app", in.Sink)
	}
	m := message{Delivery: in.delivery, ContentType: "application/json", Data: string(in.Message)}
	switch {
	case len(in.Message) == 0:
		return nil, invalid("message: is missing; one without content is null")
	case !utf8.Valid(in.Message):
		return nil, invalid("message: holds text that is not UTF-8")
	case in.Message[0] == '"':
		m.ContentType = "text/plain; charset=utf-8"
		if err := json.Unmarshal(in.Message, &m.Data); err != nil {
			return nil, invalid("message: %v", err)
		}
	}
	kind := in.Type
	if kind == "" {
		kind = trigger.SinkMessage
	}
	e, err := c.entry(snapshot.Lane(to.ID), outbox.KindSink, &m, event.Envelope{Type: kind, Subject: in.Sink})
	if err != nil {
		return nil, err
	}
	return c.sentID(ctx, e)
}

// emailSend hands an e-mail to the node's mail server, by way of the outbox.
func (c *call) emailSend(ctx context.Context, args []byte) (any, error) {
	var in struct {
		mail.Message
		delivery
	}
	if len(args) > mail.MaxBytes {
		return nil, invalid("the message takes %d bytes as JSON, attachments in base64: more than %d, which an event can hold; "+
			"store large files and send where they are", len(args), mail.MaxBytes)
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if c.email == "" {
		return nil, fault.New(fault.Unavailable, fault.Platform, "e-mail is not configured: set smtp_host and smtp_from")
	}
	if err := c.mayCause(); err != nil {
		return nil, err
	}
	if in.From == "" {
		in.From = c.email
	}
	if err := in.Check(); err != nil {
		return nil, invalid("%v", err)
	}
	lane := c.snapshot().Lane(tenant.EmailLane(c.run.Entry.App))
	if lane == nil {
		return nil, fault.New(fault.NotFound, fault.Script, "the app does not exist any more")
	}
	data, err := encode(&in.Message)
	if err != nil {
		return nil, err
	}
	e, err := c.entryOf(lane, outbox.KindSink, data, mail.ContentType, &in.delivery, event.Envelope{Type: "email.message", Subject: in.Subject})
	if err != nil {
		return nil, err
	}
	return c.sentID(ctx, e)
}

// sentID writes an entry, and is what a script is told of it.
func (c *call) sentID(ctx context.Context, e *outbox.Entry) (any, error) {
	id, err := c.send(ctx, e)
	if err != nil {
		return nil, err
	}
	return struct {
		ID uuid.UUID `json:"id"`
	}{id}, nil
}
