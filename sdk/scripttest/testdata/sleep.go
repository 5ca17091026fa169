package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	before := time.Now()
	err := ctx.Sleep(20 * time.Millisecond)
	return time.Since(before) >= 20*time.Millisecond, err
}
