package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	return ctx.Invoke("bill", nil, &picloud.Delivery{
		Delay: time.Second, ExpiresIn: time.Minute, Priority: -5, MaxAttempts: 3, OrderingKey: "a", ConcurrencyKey: "b",
		RateKey: "c", DebounceKey: "d", IdempotencyKey: "e",
	})
}
