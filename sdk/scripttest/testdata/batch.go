package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	result := picloud.BatchResult{}
	for _, m := range ctx.Batch() {
		ctx.Log.Info(m.ID+" "+m.Event.Type+" "+string(m.Body), m.Attempt)
		var v struct{ OK bool }
		if err := m.JSON(&v); err != nil || !v.OK {
			result.Failures = append(result.Failures, picloud.Failure{ID: m.ID, Error: "not ok", RetryAfter: time.Second, Fatal: err != nil})
		}
	}
	return result, nil
}
