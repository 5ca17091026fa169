package explain

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

func TestWhy(t *testing.T) {
	t.Parallel()
	script := &tenant.Script{Version: 1}
	lane := &tenant.Lane{Name: "queue q", Script: script}
	paused := &tenant.Lane{Name: "queue q", Script: script, Paused: true}
	batch := &tenant.Lane{Name: "queue q", Script: script, Policy: tenant.Policy{Batch: &tenant.Batch{Size: 4}}}
	now := time.Now()
	for name, c := range map[string]struct {
		facts Facts
		want  []Code
	}{
		"runs":              {Facts{State: outbox.Running, Node: "a", Target: script}, []Code{Running}},
		"node gone":         {Facts{State: outbox.Running, Target: script}, []Code{Orphaned}},
		"being stopped":     {Facts{State: outbox.Running, Node: "a", Cancelled: true}, []Code{Cancelling}},
		"later":             {Facts{State: outbox.Scheduled, RunAt: now, Target: script, Lane: lane}, []Code{Delayed}},
		"failed before":     {Facts{State: outbox.Scheduled, Attempt: 2, LastError: "x", Target: script, Lane: lane}, []Code{Backoff}},
		"in a batch":        {Facts{State: outbox.Scheduled, Target: script, Lane: batch}, []Code{Gathering}},
		"paused, and later": {Facts{State: outbox.Scheduled, Target: script, Lane: paused}, []Code{Paused, Delayed}},
		"at a gate":         {Facts{State: outbox.Blocked, Target: script, Lane: lane, Holders: []uuid.UUID{{1}}}, []Code{Gate}},
		"paused":            {Facts{State: outbox.Ready, Target: script, Lane: paused, FreeSlots: 1}, []Code{Paused}},
		"no script":         {Facts{State: outbox.Ready, FreeSlots: 1}, []Code{TargetGone}},
		"no version":        {Facts{State: outbox.Ready, Target: &tenant.Script{}, Lane: lane, FreeSlots: 1}, []Code{TargetGone}},
		"as many as may":    {Facts{State: outbox.Ready, Target: script, Lane: lane, Running: 2, Limit: 2, FreeSlots: 1}, []Code{Concurrency}},
		"as fast as may":    {Facts{State: outbox.Ready, Target: script, Lane: lane, NextStart: time.Second, FreeSlots: 1}, []Code{Rate}},
		"behind others":     {Facts{State: outbox.Ready, Target: script, Lane: lane, Ahead: 3}, []Code{Queue, Slots}},
		"lane just gone":    {Facts{State: outbox.Ready, Target: script, Running: 2, Limit: 2, NextStart: time.Second, FreeSlots: 1}, []Code{Soon}},
		"nothing":           {Facts{State: outbox.Ready, Target: script, Lane: lane, FreeSlots: 1}, []Code{Soon}},
	} {
		var got []Code
		for _, r := range Why(&c.facts) {
			got = append(got, r.Code)
			if r.Message == "" || r.Frees == "" {
				t.Errorf("%s: the reason %s says too little", name, r.Code)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
