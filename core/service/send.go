package service

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
)

// Limits of what a script sends.
const (
	maxPayload     = 1 << 20
	maxContentType = 255
)

// message is an event as scripts send it.
type message struct {
	Data        string   `json:"data"`
	DataBase64  []byte   `json:"data_base64"`
	ContentType string   `json:"content_type"`
	Delivery    delivery `json:"delivery"`
}

// delivery is how a script wants one event delivered.
type delivery struct {
	DelayMS        int64     `json:"delay_ms"`
	RunAt          time.Time `json:"run_at"`
	ExpiresInMS    int64     `json:"expires_in_ms"`
	Priority       int       `json:"priority"`
	MaxAttempts    int       `json:"max_attempts"`
	OrderingKey    keyText   `json:"ordering_key"`
	ConcurrencyKey keyText   `json:"concurrency_key"`
	RateKey        keyText   `json:"rate_key"`
	DebounceKey    keyText   `json:"debounce_key"`
	IdempotencyKey keyText   `json:"idempotency_key"`
}

func (d *delivery) options() (*trigger.Options, error) {
	o := &trigger.Options{
		RunAt: d.RunAt, Delay: duration(d.DelayMS), ExpiresIn: duration(d.ExpiresInMS), MaxAttempts: d.MaxAttempts,
		OrderingKey: string(d.OrderingKey), ConcurrencyKey: string(d.ConcurrencyKey), RateKey: string(d.RateKey), DebounceKey: string(d.DebounceKey),
	}
	if d.Priority != 0 {
		o.Priority = &d.Priority
	}
	for _, key := range []keyText{d.OrderingKey, d.ConcurrencyKey, d.RateKey, d.DebounceKey, d.IdempotencyKey} {
		if strings.ContainsRune(string(key), 0) {
			return nil, invalid("a key holds a zero byte, which cannot be stored")
		}
	}
	if len(d.IdempotencyKey) > tenant.MaxKey {
		return nil, invalid("idempotency_key: is longer than %d bytes", tenant.MaxKey)
	}
	if err := o.Validate(); err != nil {
		return nil, invalid("%v", err)
	}
	return o, nil
}

// duration keeps what is out of bounds out of bounds, without an overflow.
func duration(ms int64) time.Duration {
	const most = int64(tenant.MaxDelay/time.Millisecond) + 1
	return time.Duration(max(-1, min(ms, most))) * time.Millisecond
}

// mayCause says whether the run may cause another event.
func (c *call) mayCause() error {
	if e := c.run.Entry; e.Depth >= outbox.MaxDepth {
		return fault.New(fault.LoopDepth, fault.Script, "%d events have caused one another until this run, more are not let "+
			"through: if these scripts call one another in a circle, end it; the first was execution %s", e.Depth, e.RootID)
	}
	return nil
}

// entry makes the entry of a message. What it is the consequence of, whose it is and as whom it runs comes from the run.
func (c *call) entry(lane *tenant.Lane, kind outbox.Kind, m *message, env event.Envelope) (*outbox.Entry, error) {
	data := m.DataBase64
	if data == nil {
		data = []byte(m.Data)
	} else if m.Data != "" {
		return nil, invalid("data and data_base64 exclude each other")
	}
	if len(data) > maxPayload {
		return nil, invalid("the data has %d bytes, more than %d: store it and send where it is", len(data), maxPayload)
	}
	if len(m.ContentType) > maxContentType {
		return nil, invalid("content_type: is longer than %d bytes", maxContentType)
	}
	return c.entryOf(lane, kind, data, m.ContentType, &m.Delivery, env)
}

// entryOf is entry for data that was checked.
func (c *call) entryOf(
	lane *tenant.Lane, kind outbox.Kind, data []byte, contentType string, as *delivery, env event.Envelope,
) (*outbox.Entry, error) {
	options, err := as.options()
	if err != nil {
		return nil, err
	}
	env.ContentType = contentType
	e, err := trigger.NewEntry(lane, kind, env, data, options, c.run.Entry)
	if wrong := (*tenant.Invalid)(nil); errors.As(err, &wrong) {
		return nil, invalid("%v", err)
	}
	if err != nil {
		return nil, err
	}
	if key := as.IdempotencyKey; key != "" {
		e.Idempotency = &outbox.Idempotency{Scope: lane.ID, Key: string(key), Hash: digest(contentType, data)}
	}
	return e, nil
}

// digest tells contents apart. How a message is delivered is no part of it: a second try may name another time.
func digest(contentType string, data []byte) []byte {
	h := sha256.New()
	h.Write(binary.AppendUvarint(nil, uint64(len(contentType))))
	h.Write([]byte(contentType))
	h.Write(data)
	return h.Sum(nil)
}

// fencedTries is how often a write is tried that found the node without its lease: each waits for the lease first.
const fencedTries = 3

// send writes an entry and returns its id, or that of the entry that was accepted before under its idempotency key.
func (c *call) send(ctx context.Context, e *outbox.Entry) (uuid.UUID, error) {
	if c.run.Unit != nil {
		ids, err := c.stage(ctx, []*outbox.Entry{e})
		if err != nil {
			return uuid.Nil, err
		}
		return ids[0], nil
	}
	for try := 1; ; try++ {
		if err := c.outbox.Hold(ctx, c.run.Entry.Owner); err != nil {
			return uuid.Nil, err
		}
		written := *e // who writes it fills it in
		err := c.outbox.Append(ctx, &written)
		var before *outbox.Duplicate
		switch {
		case err == nil:
			return e.ID, nil
		case errors.As(err, &before):
			return before.Entry, nil
		case errors.Is(err, outbox.ErrFenced) && try < fencedTries:
		default:
			return uuid.Nil, c.refusal(ctx, e, err)
		}
	}
}

// refusal says in a script's terms why an entry was not accepted.
func (c *call) refusal(ctx context.Context, e *outbox.Entry, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if f := refused(e, err); f != nil {
		return f
	}
	if errors.Is(err, outbox.ErrUnknown) {
		return fault.New(fault.Unavailable, fault.Platform, "it is not known whether the event was accepted; "+
			"sending it again is safe with an idempotency key")
	}
	c.log.Warn("event not accepted", "entry_id", e.ID, "execution_id", c.run.Entry.ID, "error", err)
	f := fault.New(fault.Unavailable, fault.Platform, "the event was not accepted; try again")
	f.RetryAfter = time.Second
	return f
}

// refused is refusal where the script, or what it sends, is at fault; nil: neither is.
func refused(e *outbox.Entry, err error) *fault.Fault {
	var overloaded *outbox.Overloaded
	var rejected *outbox.Rejected
	switch {
	case errors.Is(err, outbox.ErrTooDeep):
		return fault.New(fault.LoopDepth, fault.Script, "%v", err)
	case errors.Is(err, outbox.ErrBudget):
		return fault.New(fault.LoopBudget, fault.Script, "what began with execution %s has led to %d events, more are not let "+
			"through: if it is no loop, divide the work by what starts it", e.RootID, outbox.MaxRootEvents)
	case errors.Is(err, outbox.ErrKeyReused):
		return fault.New(fault.Invalid, fault.Script, "idempotency_key: %v", err)
	case errors.As(err, &overloaded):
		f := fault.New(fault.Overloaded, fault.Script, "%s", overloaded.Message)
		f.RetryAfter = overloaded.RetryAfter
		return f
	case errors.As(err, &rejected):
		return fault.New(fault.Invalid, fault.Script, "the event cannot be stored: %v", rejected.Err)
	}
	return nil
}
