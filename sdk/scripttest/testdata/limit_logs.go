package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	for i := 0; i < 10; i++ {
		ctx.Log.Info("line", i)
	}
	return nil, nil
}
