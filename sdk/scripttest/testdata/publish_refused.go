package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return ctx.Publish("user.*", 1)
}
