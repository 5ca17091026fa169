package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	var v any
	err := ctx.Request.JSON(&v)
	return v, err
}
