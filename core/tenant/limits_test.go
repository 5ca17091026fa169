package tenant_test

import (
	"errors"
	"testing"
	"time"

	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	script := tenant.Limits{MemoryBytes: 200 << 20, Calls: 5}
	app := tenant.Limits{MemoryBytes: 64 << 20, LogLines: 10}
	got := script.Over(app).Over(tenant.DefaultLimits()).Under(tenant.Limits{MemoryBytes: 150 << 20, CPU: retry.Duration(time.Second)})
	want := tenant.DefaultLimits()
	want.MemoryBytes, want.Calls, want.LogLines, want.CPU = 150<<20, 5, 10, retry.Duration(time.Second)
	if got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
}

func TestLimitsAreChecked(t *testing.T) {
	t.Parallel()
	most := tenant.Limits{MemoryBytes: 64 << 20, CPU: retry.Duration(time.Second)}
	for _, c := range []struct {
		limits tenant.Limits
		field  string
		says   string
	}{
		{tenant.Limits{}, "", ""},
		{tenant.Limits{MemoryBytes: 64 << 20, LogLines: 1 << 30}, "", ""},
		{tenant.Limits{MemoryBytes: 64<<20 + 1}, "memory_bytes", "67108865 is more than what is allowed here: 67108864"},
		{tenant.Limits{CPU: retry.Duration(2 * time.Second)}, "cpu", "2s is more than what is allowed here: 1s"},
		{tenant.Limits{MemoryBytes: 7}, "memory_bytes", "7 is less than what makes sense: 1048576"},
		{tenant.Limits{Calls: -1}, "calls", "-1 is less than what makes sense: 1"},
	} {
		err := c.limits.Validate(most)
		var wrong *tenant.Invalid
		switch {
		case c.field == "" && err != nil:
			t.Errorf("%+v: %v", c.limits, err)
		case c.field != "" && (!errors.As(err, &wrong) || wrong.Field != c.field || wrong.Message != c.says):
			t.Errorf("%+v: %v", c.limits, err)
		}
	}
	if err := tenant.DefaultLimits().Validate(tenant.MaxLimits()); err != nil {
		t.Error(err)
	}
}
