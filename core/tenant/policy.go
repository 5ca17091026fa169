package tenant

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/retry"
)

// Policy is how the entries of a lane are delivered. Zero fields mean the script's own value, or none. Keys are
// templates over the event, see core/trigger.
type Policy struct {
	MaxAttempts int            `json:"max_attempts,omitempty"`
	Backoff     *retry.Policy  `json:"backoff,omitempty"`
	Delay       retry.Duration `json:"delay,omitempty"`
	ExpiresIn   retry.Duration `json:"expires_in,omitempty"` // from acceptance; an entry whose next attempt has not started by then ends as expired
	Priority    int            `json:"priority,omitempty"`   // within the lane, the lower the earlier
	OrderingKey string         `json:"ordering_key,omitempty"`

	Concurrency    int    `json:"concurrency,omitempty"` // runs of the lane at one time
	ConcurrencyKey string `json:"concurrency_key,omitempty"`
	KeyConcurrency int    `json:"key_concurrency,omitempty"` // runs of one key at one time; zero with a key: one

	Rate    *Rate  `json:"rate,omitempty"` // of the lane, or of each key where there is one
	RateKey string `json:"rate_key,omitempty"`

	Debounce *Debounce `json:"debounce,omitempty"`
	Batch    *Batch    `json:"batch,omitempty"`
}

// Rate is a token bucket: Limit starts each Per, and up to Burst at once.
type Rate struct {
	Limit int            `json:"limit"`
	Per   retry.Duration `json:"per,omitempty"`   // zero: a second
	Burst int            `json:"burst,omitempty"` // zero: Limit
}

// Debounce lets only the last of several events with one key through, once none came for Wait, at the latest MaxWait
// after the first.
type Debounce struct {
	Key     string         `json:"key,omitempty"`
	Wait    retry.Duration `json:"wait"`
	MaxWait retry.Duration `json:"max_wait,omitempty"` // zero: ten times Wait
}

// Batch hands up to Size events to one run, once there are so many or the first has waited for Window.
type Batch struct {
	Size   int            `json:"size"`
	Window retry.Duration `json:"window,omitempty"` // zero: a second
}

// Limits of policies.
const (
	MaxAttempts   = 25
	MaxPriority   = 100
	MaxDelay      = 366 * 24 * time.Hour
	MaxBatch      = 100
	MaxKey        = 255 // bytes of a key made from a template
	maxConcurrent = 10_000
	maxRate       = 1_000_000
)

// Validate says what is wrong with a policy, as an *Invalid whose field is within the policy.
func (p *Policy) Validate() error {
	wrong := func(field, format string, args ...any) error {
		return &Invalid{Field: field, Message: fmt.Sprintf(format, args...)}
	}
	between := func(field string, v, low, high int) error {
		if v < low || v > high {
			return wrong(field, "must be between %d and %d", low, high)
		}
		return nil
	}
	span := func(field string, d retry.Duration, most time.Duration) error {
		if d < 0 || time.Duration(d) > most {
			return wrong(field, "must be between 0 and %s", most)
		}
		return nil
	}
	checks := []error{
		between("max_attempts", p.MaxAttempts, 0, MaxAttempts),
		between("priority", p.Priority, -MaxPriority, MaxPriority),
		between("concurrency", p.Concurrency, 0, maxConcurrent),
		between("key_concurrency", p.KeyConcurrency, 0, maxConcurrent),
		span("delay", p.Delay, MaxDelay),
		span("expires_in", p.ExpiresIn, MaxDelay),
	}
	if p.Backoff != nil {
		if err := p.Backoff.Validate(); err != nil {
			checks = append(checks, wrong("backoff", "%v", err))
		}
	}
	if p.OrderingKey != "" && (p.ConcurrencyKey != "" || p.Batch != nil) {
		checks = append(checks, wrong("ordering_key", "excludes concurrency_key and batch: one entry of an ordering key runs at a time"))
	}
	if p.KeyConcurrency > 0 && p.ConcurrencyKey == "" {
		checks = append(checks, wrong("key_concurrency", "needs a concurrency_key; concurrency limits the whole lane"))
	}
	if p.RateKey != "" && p.Rate == nil {
		checks = append(checks, wrong("rate_key", "needs a rate"))
	}
	if r := p.Rate; r != nil {
		checks = append(checks, between("rate.limit", r.Limit, 1, maxRate), between("rate.burst", r.Burst, 0, maxRate),
			span("rate.per", r.Per, 24*time.Hour))
	}
	if d := p.Debounce; d != nil {
		checks = append(checks, span("debounce.wait", d.Wait, 24*time.Hour), span("debounce.max_wait", d.MaxWait, MaxDelay))
		switch {
		case d.Wait <= 0:
			checks = append(checks, wrong("debounce.wait", "must be more than 0"))
		case p.OrderingKey != "" || p.ConcurrencyKey != "" || p.Batch != nil || p.Delay != 0:
			checks = append(checks, wrong("debounce", "excludes delay, batch, ordering_key and concurrency_key"))
		}
	}
	if b := p.Batch; b != nil {
		checks = append(checks, between("batch.size", b.Size, 2, MaxBatch), span("batch.window", b.Window, time.Hour))
		if p.ConcurrencyKey != "" || p.RateKey != "" || p.Delay != 0 {
			checks = append(checks, wrong("batch", "excludes delay, concurrency_key and rate_key"))
		}
	}
	if e := p.ExpiresIn; e > 0 && e <= p.held() {
		checks = append(checks, wrong("expires_in", "must be longer than %s, before which no event starts", time.Duration(p.held())))
	}
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	return nil
}

// held is how long events are held back at most before they may start: by the delay, or to gather others.
func (p *Policy) held() retry.Duration {
	switch {
	case p.Debounce != nil:
		return p.Debounce.Wait
	case p.Batch != nil && p.Batch.Window == 0:
		return retry.Duration(time.Second)
	case p.Batch != nil:
		return p.Batch.Window
	}
	return p.Delay
}

// ValidateHandler says what a policy asks for that the handler of a dead letter cannot have, as Validate does: it is tried
// once, at once, and for each letter.
func (p *Policy) ValidateHandler() error {
	for _, asked := range []struct {
		field string
		is    bool
	}{
		{"max_attempts", p.MaxAttempts > 1},
		{"backoff", p.Backoff != nil},
		{"delay", p.Delay != 0},
		{"expires_in", p.ExpiresIn != 0},
		{"ordering_key", p.OrderingKey != ""},
		{"concurrency_key", p.ConcurrencyKey != ""},
		{"rate_key", p.RateKey != ""},
		{"debounce", p.Debounce != nil},
		{"batch", p.Batch != nil},
	} {
		if asked.is {
			return &Invalid{Field: asked.field, Message: "is not for handlers of dead letters: set priority, concurrency or rate"}
		}
	}
	return nil
}

// Queue is named work: each message goes to one run of its script.
type Queue struct {
	ID     uuid.UUID
	App    uuid.UUID
	Name   string
	Script uuid.UUID
	Policy Policy
}

// Lane is what owns the limits and the pause of entries: a script, a sink, a queue or a trigger.
type Lane struct {
	ID     uuid.UUID
	App    uuid.UUID
	Name   string  // "script hello", "queue mail", "trigger retry-mail"
	Script *Script // that its entries run; nil: see Sink
	Sink   *Sink   // that its entries go to
	Policy Policy
	Paused bool // itself, its app, or what its entries go to
	Weight int  // of its app; zero: one
}

// Target is the id and the policy of what the lane's entries go to.
func (l *Lane) Target() (uuid.UUID, *Policy) {
	if l.Sink != nil {
		return l.Sink.ID, &l.Sink.Policy
	}
	return l.Script.ID, &l.Script.Policy
}

// Active reports whether what the lane's entries go to can take them.
func (l *Lane) Active() bool { return l.Sink != nil || l.Script.Version != 0 }
