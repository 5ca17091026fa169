package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return down(1), nil
}

func down(n int) int { return down(n+1) + 1 }
