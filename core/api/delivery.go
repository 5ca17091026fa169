package api

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
)

// Delivery is how one event is delivered, beyond what the policy says. What is absent is as in the policy. Keys are taken
// as they are.
type Delivery struct {
	RunAt          time.Time `json:"run_at,omitzero" doc:"Not before this time"`
	Delay          string    `json:"delay,omitempty" maxLength:"32" example:"10s" doc:"Instead of run_at"`
	ExpiresIn      string    `json:"expires_in,omitempty" maxLength:"32" example:"1h" doc:"It is given up if it has not started by then"`
	Priority       *int      `json:"priority,omitempty" minimum:"-100" maximum:"100" doc:"The lower the earlier"`
	MaxAttempts    int       `json:"max_attempts,omitempty" minimum:"0" maximum:"25"`
	Backoff        *Backoff  `json:"backoff,omitempty"`
	OrderingKey    string    `json:"ordering_key,omitempty" maxLength:"255"`
	ConcurrencyKey string    `json:"concurrency_key,omitempty" maxLength:"255"`
	RateKey        string    `json:"rate_key,omitempty" maxLength:"255"`
	DebounceKey    string    `json:"debounce_key,omitempty" maxLength:"255"`
}

// KeyHeader is in the input of operations that accept an event.
type KeyHeader struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" doc:"The same request under the same key is accepted once in 24 hours"`
}

// options checks what a sender asks for. nil asks for nothing.
func (d *Delivery) options(place string) (*trigger.Options, error) {
	if d == nil {
		return &trigger.Options{}, nil
	}
	s := &spans{place: place}
	o := &trigger.Options{
		RunAt: d.RunAt, Delay: time.Duration(s.read("delay", d.Delay)), ExpiresIn: time.Duration(s.positive("expires_in", d.ExpiresIn)),
		Priority: d.Priority, MaxAttempts: d.MaxAttempts, OrderingKey: d.OrderingKey, ConcurrencyKey: d.ConcurrencyKey,
		RateKey: d.RateKey, DebounceKey: d.DebounceKey,
	}
	if d.Backoff != nil {
		o.Backoff = d.Backoff.record(s)
	}
	if s.err != nil {
		return nil, s.err
	}
	if err := o.Validate(); err != nil {
		if invalid := (*tenant.Invalid)(nil); errors.As(err, &invalid) {
			return nil, wrong(place+invalid.Field, invalid.Field+" "+invalid.Message)
		}
		return nil, err
	}
	return o, nil
}

// idempotency makes a key of a request, which is the same if all of its body is. Without a key it is nil.
func (k KeyHeader) idempotency(scope uuid.UUID, request any) (*outbox.Idempotency, error) {
	if k.IdempotencyKey == "" {
		return nil, nil
	}
	encoded, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	hash := sha256.Sum256(encoded)
	return &outbox.Idempotency{Scope: scope, Key: k.IdempotencyKey, Hash: hash[:]}, nil
}

// Accepted is an event that is safe and will run.
type Accepted struct {
	ExecutionID string    `json:"execution_id" format:"uuid"`
	AcceptedAt  time.Time `json:"accepted_at"`
	Replayed    bool      `json:"replayed,omitempty" doc:"It was accepted before, under the same Idempotency-Key"`
}
