package picloud

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// RetryOptions say how Context.Retry goes on. Zero fields: 3 attempts, and 100 ms.
type RetryOptions struct {
	// Attempts is how often the function is called at most, up to 100.
	Attempts int
	// Backoff is the wait before the second attempt, up to an hour. It doubles with each attempt, up to 30 seconds or what it began
	// with, and is cut by up to a half at random, so that many runs do not come back at one time.
	Backoff time.Duration
}

const (
	defaultAttempts = 3
	defaultBackoff  = 100 * time.Millisecond
	maxAttempts     = 100
	maxBackoff      = time.Hour
	slowest         = 30 * time.Second
)

// Retry calls f until it returns no error, and returns the last error. It waits in between, longer each time, or as long as the
// error asks (RetryAfter, Error.RetryAfter). It gives up at once where the error is Fatal, and where the run would end before the
// next attempt.
func (c *Context) Retry(f func() error, opts ...*RetryOptions) error {
	o, err := one(opts)
	if err != nil {
		return err
	}
	if err := CheckRetry(o); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err := f()
		wait, again := NextAttempt(c.runtime, o, attempt, err)
		if !again || c.Sleep(wait) != nil {
			return err
		}
	}
}

// Limited is a Runtime that knows when its run ends at the latest.
type Limited interface {
	Deadline() (time.Time, bool)
}

// CheckRetry says what is wrong with options. It is for engines; scripts do not see it.
func CheckRetry(o *RetryOptions) error {
	switch {
	case o == nil:
		return nil
	case o.Attempts < 0 || o.Attempts > maxAttempts:
		return fmt.Errorf("retry: there may be up to %d attempts, not %d", maxAttempts, o.Attempts)
	case o.Backoff < 0 || o.Backoff > maxBackoff:
		return fmt.Errorf("retry: the back-off may be up to %s, not %s", maxBackoff, o.Backoff)
	}
	return nil
}

// NextAttempt says whether there is another attempt after one, counted from 1, that ended with err, and how long to wait for it. A
// wait never goes beyond the end of the run. It is for engines; scripts do not see it.
func NextAttempt(r Runtime, o *RetryOptions, attempt int, err error) (wait time.Duration, again bool) {
	attempts, backoff := defaultAttempts, defaultBackoff
	if o != nil && o.Attempts > 0 {
		attempts = o.Attempts
	}
	if o != nil && o.Backoff > 0 {
		backoff = o.Backoff
	}
	if err == nil || attempt >= attempts {
		return 0, false
	}
	select {
	case <-r.Done():
		return 0, false
	default:
	}
	after, fatal := wishes(err)
	if fatal {
		return 0, false
	}
	if refused := (*Error)(nil); errors.As(err, &refused) && refused != nil {
		after = max(after, refused.RetryAfter)
	}
	wait = min(backoff<<min(attempt-1, 20), max(slowest, backoff)) // an hour, doubled 20 times, is no overflow
	wait = max(wait-rand.N(wait/2+1), after)
	if l, ok := r.(Limited); ok {
		if end, limited := l.Deadline(); limited && time.Until(end) <= wait {
			return 0, false
		}
	}
	return wait, true
}
