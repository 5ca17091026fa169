package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return ctx.HTTP.Delete("http://10.0.0.1/")
}
