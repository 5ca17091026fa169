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
	return []int{some, none}, err
}
