package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return ctx.Queue("mail").SendAll([]any{"one", 2}, &picloud.Delivery{IdempotencyKey: "k"})
}
