package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	_, err := ctx.Invoke("nobody", nil)
	return nil, err
}
