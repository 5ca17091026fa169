package picloud

import (
	"context"
	"errors"
	"time"

	"github.com/picloud/picloud/sdk/fault"
)

// The codes of errors that a script may want to tell apart. There are others.
const (
	// LoopDepth: the event would be too many events away from the first one. Scripts that call one another in a circle
	// end here.
	LoopDepth = "loop_depth"
	// LoopBudget: what began this has led to too many events already.
	LoopBudget = "loop_budget"
	// NotFound: there is no such thing in this app: script, queue, sink, document and so on.
	NotFound = "not_found"
	// InvalidArgument: the call is wrong; making it again will not help.
	InvalidArgument = "invalid_argument"
	// Conflict: the value or document has another version than the one that it had to have, or is there already. Read it again, then write.
	Conflict = "conflict"
	// Overloaded: the app has more waiting than it may. Error.RetryAfter says when to try again.
	Overloaded = "overloaded"
	// Forbidden: the script has no grant for the service, or the user that it runs for no right to it.
	Forbidden = "forbidden"
	// LimitExceeded: more than the platform, or the app, allows. sdk/README.md lists all limits.
	LimitExceeded = "limit_exceeded"
	// Deadline: the time for the call, or for the run, is over.
	Deadline = "deadline"
	// Unavailable: the platform could not do it now.
	Unavailable = "unavailable"
)

// Error is what calls of the platform fail with.
type Error struct {
	Code       string
	Message    string
	RetryAfter time.Duration // zero: no wish
}

func (e *Error) Error() string {
	if e == nil {
		return "no error" // a nil *Error that became an error is none to look into
	}
	return e.Code + ": " + e.Message
}

// Code returns the code of the *Error that err is or wraps, "" if there is none.
func Code(err error) string {
	var e *Error
	if errors.As(err, &e) && e != nil {
		return e.Code
	}
	return ""
}

// serviceError is what a script sees of the error of a call.
func serviceError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: string(fault.Deadline), Message: "the run is over its time"}
	case errors.Is(err, context.Canceled):
		return &Error{Code: string(fault.Cancelled), Message: "the run is over"}
	}
	f := fault.From(err)
	return &Error{Code: string(f.Kind), Message: f.Message, RetryAfter: f.RetryAfter}
}

// wish is an error with what its run is to be followed by.
type wish struct {
	err   error
	after time.Duration
	fatal bool
}

func (w *wish) Error() string { return w.err.Error() }
func (w *wish) Unwrap() error { return w.err }

// RetryAfter makes an error that asks, when Handle returns it, to be tried again after d instead of when the usual
// back-off says. The attempt counts like any other; after the last one there is no other. RetryAfter(nil, d) is nil.
//
// It is found through errors that fmt.Errorf and errors.Join made of it, not through types of the script's own: the
// interpreter shows of those only what Error says.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &wish{err: err, after: d}
}

// Fatal makes an error that says, when Handle returns it, that trying again cannot help: the event becomes a dead letter
// at once. Fatal(nil) is nil. What wraps it is looked through as with RetryAfter, over which it wins.
func Fatal(err error) error {
	if err == nil {
		return nil
	}
	return &wish{err: err, fatal: true}
}

// wishes returns what the errors in err's tree ask for: the first delay, and whether any is fatal.
func wishes(err error) (after time.Duration, fatal bool) {
	for err != nil && !fatal {
		switch e := err.(type) {
		case *wish:
			if after == 0 {
				after = e.after
			}
			fatal, err = e.fatal, e.err
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			err = nil
			for _, joined := range e.Unwrap() {
				d, f := wishes(joined)
				if fatal = fatal || f; after == 0 {
					after = d
				}
			}
		default:
			err = nil
		}
	}
	if fatal {
		return 0, true
	}
	return after, false
}
