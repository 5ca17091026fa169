package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	b := ctx.Request.Body
	return []int{len(b), int(b[0]), int(b[len(b)-1])}, nil
}
