package cron

import (
	"encoding/json"
	"time"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/trigger"
)

// Tick is the event of a time that has come.
func Tick(at time.Time) *trigger.Change {
	data, _ := json.Marshal(struct { // strings can be encoded
		ScheduledAt string `json:"scheduled_at"`
	}{at.UTC().Format(time.RFC3339)})
	return &trigger.Change{Kind: outbox.KindCron, Data: data}
}
