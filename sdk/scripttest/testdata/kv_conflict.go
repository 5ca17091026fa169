package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return ctx.KV("users").SetIf("ada", 1, 7)
}
