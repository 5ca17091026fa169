package service

import (
	"context"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
)

// Entries writes entries that belong together.
type Entries interface {
	// InsertAll writes all entries under the owner's epoch, or none. Errors are those of core/outbox.
	InsertAll(ctx context.Context, owner int64, entries []*outbox.Entry) error
	// Known returns the entry of an app that was accepted under an idempotency key, uuid.Nil: none was. For another content the error is
	// outbox.ErrKeyReused.
	Known(ctx context.Context, app uuid.UUID, key *outbox.Idempotency) (uuid.UUID, error)
}

// maxPublished is how many bytes one message may take for all the triggers that it goes to.
const maxPublished = 32 << 20

// pubsubPublish brings a message to every trigger of the app that takes its topic, in one transaction. It is no error if none
// does.
func (c *call) pubsubPublish(ctx context.Context, args []byte) (any, error) {
	var in struct {
		Topic   string          `json:"topic"`
		Message json.RawMessage `json:"message"`
		delivery
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if err := checkMessage(in.Topic, in.Message); err != nil {
		return nil, err
	}
	options, err := in.options()
	if err != nil {
		return nil, err
	}
	entries, err := c.published(&trigger.Change{Kind: outbox.KindPubSub, Topic: in.Topic, Data: in.Message, Options: options})
	if err != nil {
		return nil, err
	}
	if n := len(entries) * len(in.Message); n > maxPublished {
		return nil, invalid("the message would take %d bytes for %d triggers, more than %d: store it and publish where it is",
			n, len(entries), maxPublished)
	}
	if len(entries) > 0 {
		if key := in.IdempotencyKey; key != "" {
			// All are written with the first, or none is. A topic holds no space, so that no two pairs of topic and key are one.
			entries[0].Idempotency = &outbox.Idempotency{
				Scope: c.run.Entry.App, Key: in.Topic + " " + string(key), Hash: digest("application/json", in.Message),
			}
		}
		if err := c.sendAll(ctx, entries); err != nil {
			return nil, err
		}
	}
	return struct {
		Deliveries int `json:"deliveries"`
	}{len(entries)}, nil
}

// checkMessage says what is wrong with what is published.
func checkMessage(topic string, message json.RawMessage) error {
	if err := tenant.CheckTopic(topic); err != nil {
		return invalid("%v", err)
	}
	switch n := len(message); {
	case n == 0:
		return invalid("message: is missing; one without content is null")
	case n > maxPayload:
		return invalid("the message takes %d bytes as JSON, more than %d: store it and publish where it is", n, maxPayload)
	case !utf8.Valid(message):
		return invalid("message: holds text that is not UTF-8")
	}
	return nil
}

// pubsubPublishEphemeral hands a message to every trigger that takes its topic and whose script has a free slot on this node. It is
// not written anywhere, so what has no slot, or is lost with the node, is gone. Of the policies of triggers only how many may run and
// how fast they start is for it.
func (c *call) pubsubPublishEphemeral(ctx context.Context, args []byte) (any, error) {
	var in struct {
		Topic   string          `json:"topic"`
		Message json.RawMessage `json:"message"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if err := checkMessage(in.Topic, in.Message); err != nil {
		return nil, err
	}
	var out struct {
		Deliveries int `json:"deliveries"`
		Dropped    int `json:"dropped"`
	}
	change := &trigger.Change{Kind: outbox.KindPubSub, Topic: in.Topic, Data: in.Message}
	for _, t := range trigger.Match(c.snapshot(), c.run.Entry.App, change, c.unfit) {
		if err := c.mayCause(); err != nil {
			return nil, err
		}
		plain, lane := *t, *t.Lane
		lane.Policy = tenant.Policy{}
		plain.Lane = &lane
		e, err := trigger.Caused(&plain, change, c.run.Entry)
		if err != nil {
			return nil, err
		}
		taken, err := c.outbox.Hand(e)
		switch {
		case err != nil:
			return nil, c.refusal(ctx, e, err)
		case taken:
			out.Deliveries++
		default:
			out.Dropped++
		}
	}
	return out, nil
}

// published makes the entries of a message.
func (c *call) published(message *trigger.Change) ([]*outbox.Entry, error) {
	triggers := trigger.Match(c.snapshot(), c.run.Entry.App, message, c.unfit)
	if len(triggers) == 0 {
		return nil, nil
	}
	if err := c.mayCause(); err != nil {
		return nil, err
	}
	entries := make([]*outbox.Entry, len(triggers))
	for i, t := range triggers {
		var err error
		entries[i], err = trigger.Caused(t, message, c.run.Entry)
		if wrong := (*tenant.Invalid)(nil); errors.As(err, &wrong) {
			return nil, invalid("the message is not for the trigger %q: %v", t.Name, err)
		}
		if err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// sendAll writes entries in one transaction. It is no error if they were written before under their idempotency key.
func (c *call) sendAll(ctx context.Context, entries []*outbox.Entry) error {
	if c.run.Unit != nil {
		_, err := c.stage(ctx, entries)
		return err
	}
	size := 0
	for _, e := range entries {
		size += len(e.Payload) + len(e.Envelope)
	}
	for try := 1; ; try++ {
		if err := c.outbox.Hold(ctx, c.run.Entry.Owner); err != nil {
			return err
		}
		written := make([]*outbox.Entry, len(entries)) // who writes them fills them in
		for i, e := range entries {
			again := *e
			written[i] = &again
		}
		err := c.outbox.AppendCaused(ctx, c.run.Entry.App, size, func(int64) ([]*outbox.Entry, error) {
			return written, c.entries.InsertAll(ctx, c.run.Entry.Owner, written)
		})
		var before *outbox.Duplicate
		switch {
		case err == nil, errors.As(err, &before):
			return nil
		case errors.Is(err, outbox.ErrFenced) && try < fencedTries:
		default:
			return c.refusal(ctx, entries[0], err)
		}
	}
}
