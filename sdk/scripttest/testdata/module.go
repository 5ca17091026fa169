package main

import (
	"app/greet"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	return greet.Hello(ctx.Request.Param("name")), nil
}
