package tenant

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/sdk/engine"
)

// Limits bound each run of a script. Zero fields: what the script's app says, or else DefaultLimits.
type Limits struct {
	MemoryBytes int64          `json:"memory_bytes,omitempty"`
	CPU         retry.Duration `json:"cpu,omitempty"`        // processor time
	Goroutines  int            `json:"goroutines,omitempty"` // or what the language has in their place
	AnswerBytes int64          `json:"answer_bytes,omitempty"`
	LogLines    int            `json:"log_lines,omitempty"`
	LogBytes    int            `json:"log_bytes,omitempty"` // of messages and their data
	Calls       int            `json:"calls,omitempty"`     // of services
}

// DefaultLimits are those of a script where neither it nor its app says otherwise.
func DefaultLimits() Limits {
	return Limits{
		MemoryBytes: 112 << 20, CPU: retry.Duration(30 * time.Second), Goroutines: 1000, AnswerBytes: 6 << 20, LogLines: 1000,
		LogBytes: 256 << 10, Calls: 1000,
	}
}

// MaxLimits are the most that the settings of a node may allow: what an engine process bears, and the platform.
func MaxLimits() Limits {
	return Limits{
		MemoryBytes: 448 << 20, CPU: retry.Duration(5 * time.Minute), Goroutines: 10_000, AnswerBytes: 64 << 20, LogLines: 10_000,
		LogBytes: 1 << 20, Calls: 100_000,
	}
}

// minLimits are the least that makes sense; below it an engine could not even start a run.
var minLimits = Limits{
	MemoryBytes: 1 << 20, CPU: retry.Duration(time.Millisecond), Goroutines: 1, AnswerBytes: 1, LogLines: 1, LogBytes: 1, Calls: 1,
}

// each calls f for every limit of l, with that of the other ones and how it is called.
func (l *Limits) each(o *Limits, f func(name string, own *int64, other int64)) {
	whole := func(name string, own *int, other int) {
		n := int64(*own)
		f(name, &n, int64(other))
		*own = int(n)
	}
	f("memory_bytes", &l.MemoryBytes, o.MemoryBytes)
	f("cpu", (*int64)(&l.CPU), int64(o.CPU))
	whole("goroutines", &l.Goroutines, o.Goroutines)
	f("answer_bytes", &l.AnswerBytes, o.AnswerBytes)
	whole("log_lines", &l.LogLines, o.LogLines)
	whole("log_bytes", &l.LogBytes, o.LogBytes)
	whole("calls", &l.Calls, o.Calls)
}

// Over returns l with what it does not say taken from below.
func (l Limits) Over(below Limits) Limits {
	l.each(&below, func(_ string, own *int64, other int64) {
		if *own == 0 {
			*own = other
		}
	})
	return l
}

// Under returns l where it is below most, and most elsewhere; zero fields of most bound nothing.
func (l Limits) Under(most Limits) Limits {
	l.each(&most, func(_ string, own *int64, other int64) {
		if other > 0 && *own > other {
			*own = other
		}
	})
	return l
}

// Validate says what is asked for beyond most, or makes no sense, as *Invalid. Zero fields of most bound nothing.
func (l Limits) Validate(most Limits) error {
	var wrong error
	refuse := func(name string, own, bound int64, what string) {
		if wrong == nil {
			wrong = &Invalid{Field: name, Message: fmt.Sprintf("%s is %s %s", amount(name, own), what, amount(name, bound))}
		}
	}
	l.each(&most, func(name string, own *int64, other int64) {
		if other > 0 && *own > other {
			refuse(name, *own, other, "more than what is allowed here:")
		}
	})
	l.each(&minLimits, func(name string, own *int64, least int64) {
		if *own != 0 && *own < least {
			refuse(name, *own, least, "less than what makes sense:")
		}
	})
	return wrong
}

func amount(name string, n int64) string {
	if name == "cpu" {
		return time.Duration(n).String()
	}
	return fmt.Sprint(n)
}

// Bound sets what holds for the runs of an app's scripts: what each says, or else its app or the platform, and never more than
// its app allows, or the node. A bundle has limits, so that its hash is of them too.
func (a *App) Bound(most Limits) {
	for i := range a.Scripts {
		s := &a.Scripts[i]
		s.Bounds = s.Limits.Over(a.Limits).Over(DefaultLimits()).Under(a.Limits).Under(most)
		if s.Hash == "" || s.Bounds == DefaultLimits() {
			continue
		}
		h := hasher{sha256.New()}
		h.text(s.Hash)
		s.Bounds.each(&Limits{}, func(_ string, own *int64, _ int64) { h.number(int(*own)) })
		s.Hash = h.sum()
	}
}

// Engine returns what of l an engine keeps.
func (l Limits) Engine() engine.Limits {
	return engine.Limits{
		Memory: int(l.MemoryBytes), CPU: time.Duration(l.CPU), Goroutines: l.Goroutines, BodyBytes: int(l.AnswerBytes),
		LogLines: l.LogLines, LogBytes: l.LogBytes,
	}
}
