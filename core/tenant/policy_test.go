package tenant

import (
	"errors"
	"testing"
	"time"

	"github.com/picloud/picloud/core/retry"
)

// An event that is held back must have time to start.
func TestExpiryBeforeTheStart(t *testing.T) {
	t.Parallel()
	const s = retry.Duration(time.Second)
	for name, p := range map[string]Policy{
		"delay":               {Delay: 5 * s, ExpiresIn: 5 * s},
		"debounce":            {Debounce: &Debounce{Wait: 5 * s}, ExpiresIn: 4 * s},
		"batch":               {Batch: &Batch{Size: 2, Window: 5 * s}, ExpiresIn: 5 * s},
		"batch of one second": {Batch: &Batch{Size: 2}, ExpiresIn: s},
	} {
		if invalid := (*Invalid)(nil); !errors.As(p.Validate(), &invalid) || invalid.Field != "expires_in" {
			t.Errorf("%s: %v", name, p.Validate())
		}
		p.ExpiresIn = 6 * s
		if err := p.Validate(); err != nil {
			t.Errorf("%s with time to start: %v", name, err)
		}
	}
}
