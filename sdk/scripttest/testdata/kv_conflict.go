package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return ctx.KV("users").Set("ada", 1, &picloud.SetOptions{IfVersion: 7})
}
