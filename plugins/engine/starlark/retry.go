package starlark

import (
	"time"

	"go.starlark.net/starlark"

	"github.com/picloud/picloud/sdk/picloud"
)

// retry calls a function until it does not fail. It is the one place where a script goes on after an error.
func (r *run) retry(t *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var f starlark.Callable
	var o picloud.RetryOptions
	var backoff seconds
	if err := starlark.UnpackArgs(b.Name(), args, kwargs, "f", &f, "attempts?", &o.Attempts, "backoff?", &backoff); err != nil {
		return nil, err
	}
	o.Backoff = time.Duration(backoff)
	if err := picloud.CheckRetry(&o); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		v, err := starlark.Call(t, f, nil, nil)
		if err == nil || r.ended() {
			return v, err
		}
		wait, again := picloud.NextAttempt(r, &o, attempt, err)
		if !again || r.wait(wait) != nil {
			return nil, err
		}
	}
}

// ended reports whether the run was stopped: what a function fails with then is no error of its own.
func (r *run) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.over != nil
}

// wait ends with the run.
func (r *run) wait(d time.Duration) error {
	r.inHost.Add(1)
	defer r.inHost.Add(-1)
	return r.picloud.Sleep(d)
}

// Deadline is part of picloud.Limited.
func (r *run) Deadline() (time.Time, bool) { return r.ctx.Deadline() }
