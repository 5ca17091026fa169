// Package fault is an error that keeps its meaning across the process boundary: what went wrong, and whose fault it was.
package fault

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Origin says whose fault an error is.
type Origin string

// The origins. A caller's fault is never retried; a script's is, by its policy; a plugin's or the platform's always.
const (
	Script   Origin = "script"
	Plugin   Origin = "plugin"
	Caller   Origin = "caller"
	Platform Origin = "platform"
)

// Kind is a stable word for a condition that somebody acts on.
type Kind string

// The kinds. Each belongs to one HTTP status on the sync path: see core/execution.
const (
	ScriptError     Kind = "script_error"     // the script returned an error
	ScriptPanic     Kind = "script_panic"     // the script panicked
	InvalidResponse Kind = "invalid_response" // the script's answer cannot be sent
	Compile         Kind = "compile_error"    // the script does not compile
	Deadline        Kind = "deadline"         // the run was stopped at its deadline
	Limit           Kind = "limit_exceeded"   // the run was stopped at a limit other than time
	Cancelled       Kind = "cancelled"        // the host no longer wants the run
	EngineLost      Kind = "engine_lost"      // the engine process died under the run
	Unavailable     Kind = "unavailable"      // nothing was started; trying again later may work
	NotFound        Kind = "not_found"        // the thing asked for does not exist, or is not the caller's
	Invalid         Kind = "invalid_argument" // the caller's input is wrong; trying again will not help
	Forbidden       Kind = "forbidden"        // the run has no right to it
	Conflict        Kind = "conflict"         // the thing has changed since it was read
	LoopDepth       Kind = "loop_depth"       // the event would be too many events away from its first cause
	LoopBudget      Kind = "loop_budget"      // the first cause of the event has led to too many events
	Overloaded      Kind = "overloaded"       // the app has more waiting than it may; trying again later may work
	Internal        Kind = "internal"         // a defect in the platform or a plugin
)

// Fault is the error that crosses borders. Message is for the person who can act on it; it never holds secrets.
type Fault struct {
	Kind       Kind
	Origin     Origin
	Message    string
	Detail     string        // a stack or a diagnostic with positions; may be empty
	RetryAfter time.Duration // zero: no wish
	Fatal      bool          // trying again cannot help
}

func (f *Fault) Error() string { return f.Message }

// New makes a fault.
func New(kind Kind, origin Origin, format string, args ...any) *Fault {
	return &Fault{Kind: kind, Origin: origin, Message: fmt.Sprintf(format, args...)}
}

// Cut is a text as a message tells it: of one with more than so many bytes the beginning, and "…". By that the platform knows that what
// stands before it may be a part of a secret.
func Cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// From returns the fault in err's chain, or an internal one of the platform that says what err says. From(nil) is nil.
func From(err error) *Fault {
	if err == nil {
		return nil
	}
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	return &Fault{Kind: Internal, Origin: Platform, Message: err.Error()}
}
