package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	return ctx.Invoke("bill", nil, &picloud.Delivery{RunAt: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)})
}
