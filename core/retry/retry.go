// Package retry is the arithmetic of trying again: back-off, jitter, limits. It reads no clock; the dispatcher applies it to entries, and who keeps
// processes to those that die.
package retry

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/picloud/picloud/core/planted"
)

// Kind is the shape of a back-off.
type Kind string

// The shapes.
const (
	Exponential Kind = "exponential" // base, base×factor, base×factor², …
	Linear      Kind = "linear"      // base, 2×base, 3×base, …
	Constant    Kind = "constant"    // base each time
	Table       Kind = "table"       // the given delays, the last one repeated
)

// Policy says how long to wait before the next attempt. Zero fields take the defaults of Default.
type Policy struct {
	Kind   Kind       `json:"kind,omitempty"`
	Base   Duration   `json:"base,omitempty"`
	Factor float64    `json:"factor,omitempty"`
	Cap    Duration   `json:"cap,omitempty"`
	Delays []Duration `json:"delays,omitempty"`
}

// Default is exponential from one second to one hour.
var Default = Policy{Kind: Exponential, Base: Duration(time.Second), Factor: 2, Cap: Duration(time.Hour)}

// longest is what one wait may be at most: what can be added to any time and drawn from without overflow.
const longest = 366 * 24 * time.Hour

// Validate says what is wrong with a policy.
func (p Policy) Validate() error {
	switch p.Kind {
	case "", Exponential, Linear, Constant:
		if len(p.Delays) > 0 {
			return fmt.Errorf("kind %q takes no delays; use kind %q", p.Kind, Table)
		}
	case Table:
		if len(p.Delays) == 0 {
			return fmt.Errorf("kind %q needs at least one delay", Table)
		}
	default:
		return fmt.Errorf("kind %q is not one of exponential, linear, constant, table", p.Kind)
	}
	if p.Base < 0 || p.Cap < 0 || (p.Factor != 0 && p.Factor < 1) {
		return fmt.Errorf("base and cap must not be negative and factor must be at least 1")
	}
	if time.Duration(max(p.Base, p.Cap)) > longest {
		return fmt.Errorf("base and cap must be at most %s", longest)
	}
	for _, d := range p.Delays {
		if d < 0 || time.Duration(d) > longest {
			return fmt.Errorf("delays must be between 0 and %s", longest)
		}
	}
	return nil
}

// Ceiling is the longest wait before the attempt that follows attempt n (1-based), of a valid policy. It never exceeds
// Cap and never overflows, however large n is.
func (p Policy) Ceiling(n int) time.Duration {
	n = max(n, 1)
	base, limit := time.Duration(p.Base), time.Duration(p.Cap)
	if p.Kind == Table {
		d := time.Duration(p.Delays[min(n, len(p.Delays))-1])
		if limit > 0 { // the default is for waits that grow by themselves
			return min(d, limit)
		}
		return d
	}
	if base == 0 {
		base = time.Duration(Default.Base)
	}
	if limit == 0 {
		limit = time.Duration(Default.Cap)
	}
	factor := p.Factor
	if factor == 0 {
		factor = Default.Factor
	}
	switch p.Kind {
	case Constant:
		return min(base, limit)
	case Linear:
		if time.Duration(n) > limit/base {
			return limit
		}
		return min(base*time.Duration(n), limit)
	}
	if d := float64(base) * math.Pow(factor, float64(n-1)); d < float64(limit) {
		return time.Duration(d)
	}
	return limit
}

// Delay draws the wait before the attempt that follows attempt n with full jitter: uniform in [0, Ceiling(n)], so that
// entries that failed together do not come back together (Brooker, "Exponential Backoff And Jitter", 2015). A table is
// taken as given: whoever writes one down means those times. random draws from [0, n), as rand.Int64N does.
func (p Policy) Delay(n int, random func(n int64) int64) time.Duration {
	c := p.Ceiling(n)
	if p.Kind == Table || c <= 0 || planted.Is(planted.NoJitter) {
		return c
	}
	return time.Duration(random(int64(c) + 1))
}

// Duration is a time.Duration that reads and writes as text ("1.5s").
type Duration time.Duration

// MarshalJSON writes the duration as text.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads the duration from text.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a duration is text such as \"1.5s\": %w", err)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("duration %q: %w", s, err)
	}
	*d = Duration(v)
	return nil
}
