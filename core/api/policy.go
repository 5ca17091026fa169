package api

import (
	"errors"
	"time"

	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
)

// Policy is how the events of a script, queue or trigger are delivered. Spans of time are text such as "1.5s" or "2h".
type Policy struct {
	MaxAttempts    int       `json:"max_attempts,omitempty" minimum:"0" maximum:"25" doc:"How often an event is tried; that of the script if absent"`
	Backoff        *Backoff  `json:"backoff,omitempty" doc:"How long to wait before the next attempt"`
	Delay          string    `json:"delay,omitempty" maxLength:"32" example:"10s" doc:"Before the first attempt"`
	ExpiresIn      string    `json:"expires_in,omitempty" maxLength:"32" example:"1h" doc:"From acceptance; an attempt that has not started by then is not made: the event is given up"`
	Priority       int       `json:"priority,omitempty" minimum:"-100" maximum:"100" doc:"Among those that wait here: the lower the earlier"`
	OrderingKey    string    `json:"ordering_key,omitempty" maxLength:"1024" example:"{body.customer.id}" doc:"Events of one key run one after the other, in the order of acceptance; the next waits until the one before has ended for good. A template over the event: {params.name}, {query.name}, {headers.name}, {body.path}"`
	Concurrency    int       `json:"concurrency,omitempty" minimum:"0" maximum:"10000" doc:"How many run at one time"`
	ConcurrencyKey string    `json:"concurrency_key,omitempty" maxLength:"1024" example:"{headers.x-tenant}" doc:"A template like ordering_key; of each key only key_concurrency run at one time"`
	KeyConcurrency int       `json:"key_concurrency,omitempty" minimum:"0" maximum:"10000" doc:"1 if absent"`
	Rate           *Rate     `json:"rate,omitempty" doc:"How many start in a time"`
	RateKey        string    `json:"rate_key,omitempty" maxLength:"1024" doc:"A template like ordering_key; each key has the rate for itself"`
	Debounce       *Debounce `json:"debounce,omitempty" doc:"Only the last of several events runs"`
	Batch          *Batch    `json:"batch,omitempty" doc:"Several events are handed to one run"`
}

// Backoff is how long to wait before the next attempt. The wait is random between nothing and what is computed, but for
// kind table.
type Backoff struct {
	Kind   string   `json:"kind,omitempty" enum:"exponential,linear,constant,table" doc:"exponential if absent. Of all but table the wait is drawn between nothing and what is computed (full jitter), so that what failed together does not come back together"`
	Base   string   `json:"base,omitempty" maxLength:"32" example:"1s" doc:"1s if absent"`
	Factor float64  `json:"factor,omitempty" minimum:"0" maximum:"1000" doc:"Of kind exponential; 2 if absent"`
	Cap    string   `json:"cap,omitempty" maxLength:"32" example:"1h" doc:"The longest wait; 1h if absent"`
	Delays []string `json:"delays,omitempty" maxItems:"25" doc:"Of kind table: the waits, of which the last is repeated"`
}

// Rate is a token bucket.
type Rate struct {
	Limit int    `json:"limit" minimum:"1" maximum:"1000000" doc:"How many start in each time"`
	Per   string `json:"per,omitempty" maxLength:"32" example:"1m" doc:"The time; 1s if absent"`
	Burst int    `json:"burst,omitempty" minimum:"0" maximum:"1000000" doc:"How many may start at once; limit if absent"`
}

// Debounce lets only the last of several events through.
type Debounce struct {
	Key     string `json:"key,omitempty" maxLength:"1024" doc:"A template like ordering_key: only events of one key replace each other"`
	Wait    string `json:"wait" maxLength:"32" example:"5s" doc:"It runs once no other came for this long"`
	MaxWait string `json:"max_wait,omitempty" maxLength:"32" example:"1m" doc:"At the latest this long after the first; ten times wait if absent"`
}

// Batch gathers events for one run.
type Batch struct {
	Size   int    `json:"size" minimum:"2" maximum:"100" doc:"How many events one run is handed at most"`
	Window string `json:"window,omitempty" maxLength:"32" example:"1s" doc:"How long the first waits for others; 1s if absent"`
}

// spans reads spans of time and remembers the first that is wrong.
type spans struct {
	place string // in the request
	err   error
}

// positive reads a span that is absent or more than nothing: "0s" would pass for absent.
func (s *spans) positive(field, text string) retry.Duration {
	d := s.read(field, text)
	if d <= 0 && text != "" && s.err == nil {
		s.err = wrong(s.place+field, field+" must be more than 0")
	}
	return d
}

func (s *spans) read(field, text string) retry.Duration {
	if text == "" || s.err != nil {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		s.err = wrong(s.place+field, `"`+text+`" is not a span of time such as "1.5s", "2m" or "1h30m", or is too long`)
	}
	return retry.Duration(d)
}

// record checks a policy; place is where it stands in the request, with a dot at its end. Its keys may name parts of
// requests only where requests come by it.
func (p *Policy) record(place string, requests bool) (*tenant.Policy, error) {
	s := &spans{place: place}
	out := &tenant.Policy{
		MaxAttempts: p.MaxAttempts, Delay: s.read("delay", p.Delay), ExpiresIn: s.positive("expires_in", p.ExpiresIn),
		Priority: p.Priority, OrderingKey: p.OrderingKey, Concurrency: p.Concurrency, ConcurrencyKey: p.ConcurrencyKey,
		KeyConcurrency: p.KeyConcurrency, RateKey: p.RateKey,
	}
	if p.Backoff != nil {
		out.Backoff = p.Backoff.record(s)
	}
	if r := p.Rate; r != nil {
		out.Rate = &tenant.Rate{Limit: r.Limit, Per: s.positive("rate.per", r.Per), Burst: r.Burst}
	}
	if d := p.Debounce; d != nil {
		out.Debounce = &tenant.Debounce{Key: d.Key, Wait: s.positive("debounce.wait", d.Wait), MaxWait: s.positive("debounce.max_wait", d.MaxWait)}
	}
	if b := p.Batch; b != nil {
		out.Batch = &tenant.Batch{Size: b.Size, Window: s.positive("batch.window", b.Window)}
	}
	if s.err != nil {
		return nil, s.err
	}
	for _, key := range []struct{ field, template string }{
		{"ordering_key", p.OrderingKey}, {"concurrency_key", p.ConcurrencyKey}, {"rate_key", p.RateKey},
	} {
		if err := trigger.CheckTemplate(key.template, requests); err != nil {
			return nil, wrong(place+key.field, err.Error())
		}
	}
	if p.Debounce != nil {
		if err := trigger.CheckTemplate(p.Debounce.Key, requests); err != nil {
			return nil, wrong(place+"debounce.key", err.Error())
		}
	}
	if err := out.Validate(); err != nil {
		if invalid := (*tenant.Invalid)(nil); errors.As(err, &invalid) {
			return nil, wrong(place+invalid.Field, invalid.Field+" "+invalid.Message)
		}
		return nil, err
	}
	return out, nil
}

func (b *Backoff) record(s *spans) *retry.Policy {
	out := &retry.Policy{
		Kind: retry.Kind(b.Kind), Base: s.positive("backoff.base", b.Base), Factor: b.Factor, Cap: s.positive("backoff.cap", b.Cap),
	}
	for _, d := range b.Delays {
		out.Delays = append(out.Delays, s.read("backoff.delays", d))
	}
	return out
}

func viewPolicy(p *tenant.Policy) Policy {
	out := Policy{
		MaxAttempts: p.MaxAttempts, Delay: span(p.Delay), ExpiresIn: span(p.ExpiresIn), Priority: p.Priority,
		OrderingKey: p.OrderingKey, Concurrency: p.Concurrency, ConcurrencyKey: p.ConcurrencyKey,
		KeyConcurrency: p.KeyConcurrency, RateKey: p.RateKey,
	}
	if b := p.Backoff; b != nil {
		out.Backoff = &Backoff{Kind: string(b.Kind), Base: span(b.Base), Factor: b.Factor, Cap: span(b.Cap)}
		for _, d := range b.Delays {
			out.Backoff.Delays = append(out.Backoff.Delays, time.Duration(d).String())
		}
	}
	if r := p.Rate; r != nil {
		out.Rate = &Rate{Limit: r.Limit, Per: span(r.Per), Burst: r.Burst}
	}
	if d := p.Debounce; d != nil {
		out.Debounce = &Debounce{Key: d.Key, Wait: span(d.Wait), MaxWait: span(d.MaxWait)}
	}
	if b := p.Batch; b != nil {
		out.Batch = &Batch{Size: b.Size, Window: span(b.Window)}
	}
	return out
}

func span(d retry.Duration) string {
	if d == 0 {
		return ""
	}
	return time.Duration(d).String()
}
