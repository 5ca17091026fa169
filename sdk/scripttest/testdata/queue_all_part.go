package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	_, err := ctx.Queue("mail").SendAll([]any{"one", "two"})
	return nil, err
}
