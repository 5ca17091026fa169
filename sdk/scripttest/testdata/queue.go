package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return ctx.Queue("mail").Send("hello", &picloud.Delivery{Priority: 1})
}
