// Package trigger says which triggers take an event, by their filters and expressions, and how it is delivered: it turns a lane's policy,
// what the sender asked for, and the event itself into the fields of an entry. It stands between those who accept events and core/outbox.
// No I/O.
package trigger

import (
	"fmt"
	"time"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
)

// Options are what the sender of one event asks for beyond the policy of its lane. Zero fields leave the policy's value.
// Keys are taken as they are, not as templates.
type Options struct {
	RunAt          time.Time
	Delay          time.Duration
	ExpiresIn      time.Duration
	Priority       *int
	MaxAttempts    int
	Backoff        *retry.Policy
	OrderingKey    string
	ConcurrencyKey string
	RateKey        string
	DebounceKey    string
}

// Validate says what is wrong with the options, as a *tenant.Invalid.
func (o *Options) Validate() error {
	p := tenant.Policy{
		MaxAttempts: o.MaxAttempts, Backoff: o.Backoff, Delay: retry.Duration(o.Delay), ExpiresIn: retry.Duration(o.ExpiresIn),
	}
	if o.Priority != nil {
		p.Priority = *o.Priority
	}
	switch {
	case o.Delay != 0 && !o.RunAt.IsZero():
		return &tenant.Invalid{Field: "run_at", Message: "excludes delay"}
	case !o.RunAt.IsZero() && time.Until(o.RunAt) > tenant.MaxDelay:
		return &tenant.Invalid{Field: "run_at", Message: fmt.Sprintf("must be within %s", tenant.MaxDelay)}
	case o.OrderingKey != "" && o.ConcurrencyKey != "":
		return &tenant.Invalid{Field: "concurrency_key", Message: "excludes ordering_key: one entry of an ordering key runs at a time"}
	}
	for field, key := range map[string]string{
		"ordering_key": o.OrderingKey, "concurrency_key": o.ConcurrencyKey, "rate_key": o.RateKey, "debounce_key": o.DebounceKey,
	} {
		if len(key) > tenant.MaxKey {
			return &tenant.Invalid{Field: field, Message: fmt.Sprintf("is longer than %d bytes", tenant.MaxKey)}
		}
	}
	return p.Validate()
}

// Apply sets how e, whose lane and target are known, is delivered: by the lane's policy, or by the target's own where
// the lane has no say, or as o asks for. in is what keys are made from. The error is a *tenant.Invalid.
func Apply(e *outbox.Entry, lane *tenant.Lane, o *Options, in *Input) error {
	p := &lane.Policy
	e.Lane = lane.ID
	e.Delay, e.ExpiresIn, e.RunAt = time.Duration(p.Delay), time.Duration(p.ExpiresIn), time.Time{}
	e.Priority = int16(p.Priority)
	if p.MaxAttempts > 0 {
		e.MaxAttempts = p.MaxAttempts
	}
	e.Backoff = p.Backoff
	if e.Backoff == nil {
		_, own := lane.Target()
		e.Backoff = own.Backoff
	}
	if o == nil {
		o = &Options{}
	}
	if o.Delay > 0 || !o.RunAt.IsZero() {
		e.Delay, e.RunAt = o.Delay, o.RunAt
	}
	if o.ExpiresIn > 0 {
		e.ExpiresIn = o.ExpiresIn
	}
	if o.Priority != nil {
		e.Priority = int16(*o.Priority)
	}
	if o.MaxAttempts > 0 {
		e.MaxAttempts = o.MaxAttempts
	}
	if o.Backoff != nil {
		e.Backoff = o.Backoff
	}
	return keys(e, p, o, in)
}

// keys sets what e shares with other entries.
func keys(e *outbox.Entry, p *tenant.Policy, o *Options, in *Input) error {
	var errs []error
	key := func(field, template, given string) string {
		if given != "" {
			return given
		}
		k, err := in.Expand(template)
		if err != nil {
			errs = append(errs, &tenant.Invalid{Field: field, Message: err.Error()})
		}
		return k
	}
	order := key("ordering_key", p.OrderingKey, o.OrderingKey)
	limit := key("concurrency_key", p.ConcurrencyKey, o.ConcurrencyKey)
	switch {
	case order != "":
		e.Gate, e.GateLimit = outbox.OrderGate(order), 1
	case limit != "":
		e.Gate, e.GateLimit = outbox.LimitGate(e.Lane, limit), max(1, p.KeyConcurrency)
	}
	if p.Rate != nil {
		e.RateKey = key("rate_key", p.RateKey, o.RateKey)
	}
	if d := p.Debounce; d != nil && e.Gate == "" {
		e.Debounce = key("debounce.key", d.Key, o.DebounceKey)
		if e.Debounce == "" {
			e.Debounce = "-" // without a key, all events of the lane are one
		}
		e.DebounceFor, e.DebounceMax = time.Duration(d.Wait), time.Duration(d.MaxWait)
		if e.DebounceMax == 0 {
			e.DebounceMax = 10 * e.DebounceFor
		}
		e.Delay, e.RunAt = e.DebounceFor, time.Time{}
	}
	if b := p.Batch; b != nil && e.Gate == "" && e.Debounce == "" && e.Delay == 0 && e.RunAt.IsZero() {
		e.BatchSize, e.BatchWindow = b.Size, time.Duration(b.Window)
		if e.BatchWindow == 0 {
			e.BatchWindow = time.Second
		}
	}
	if len(errs) > 0 {
		return errs[0]
	}
	return expiry(e)
}

// expiry refuses an entry that could never start.
func expiry(e *outbox.Entry) error {
	held := e.Delay
	if !e.RunAt.IsZero() {
		held = time.Until(e.RunAt)
	}
	if held = max(held, e.BatchWindow); e.ExpiresIn > 0 && e.ExpiresIn <= held {
		return &tenant.Invalid{
			Field:   "expires_in",
			Message: fmt.Sprintf("%s ends before the event may start, in %s", e.ExpiresIn, held.Round(time.Millisecond)),
		}
	}
	return nil
}
