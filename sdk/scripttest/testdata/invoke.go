package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return ctx.Invoke("bill", map[string]int{"order": 7})
}
