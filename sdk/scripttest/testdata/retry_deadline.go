package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	var value int
	return nil, ctx.Retry(func() error {
		_, err := ctx.KV("c").Get("k", &value)
		return err
	}, &picloud.RetryOptions{Backoff: time.Hour})
}
