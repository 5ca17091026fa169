package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	some, err := ctx.Publish("user.created", map[string]string{"name": "Ada"})
	if err != nil {
		return nil, err
	}
	none, err := ctx.Publish("user.gone", nil, &picloud.Delivery{Delay: 1500 * time.Millisecond, Priority: -3, IdempotencyKey: "k"})
	if err != nil {
		return nil, err
	}
	one, err := ctx.Publish("user.gone", 1, &picloud.Delivery{
		RunAt: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), ExpiresIn: time.Minute, MaxAttempts: 3, OrderingKey: "a",
		ConcurrencyKey: "b", RateKey: "c", DebounceKey: "d",
	})
	return []int{some, none, one}, err
}
