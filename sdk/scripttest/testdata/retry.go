package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	attempts, value := 0, 0
	err := ctx.Retry(func() error {
		attempts++
		_, err := ctx.KV("c").Get("k", &value)
		return err
	}, &picloud.RetryOptions{Attempts: 5, Backoff: time.Millisecond})
	return []int{value, attempts}, err
}
