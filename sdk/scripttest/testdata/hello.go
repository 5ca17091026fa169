package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return map[string]string{"hello": ctx.Request.Param("name")}, nil
}
