package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	billing := ctx.Sink("billing")
	text, err := billing.Send("hello")
	if err != nil {
		return nil, err
	}
	paid, err := billing.SendAs("order.paid", map[string]int{"order": 7}, &picloud.Delivery{
		Delay: 1500 * time.Millisecond, MaxAttempts: 3, IdempotencyKey: "k",
	})
	return []string{text, paid}, err
}
