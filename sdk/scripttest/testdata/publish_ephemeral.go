package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	taken, dropped, err := ctx.PublishEphemeral("user.typing", map[string]string{"name": "Ada"})
	return []int{taken, dropped}, err
}
