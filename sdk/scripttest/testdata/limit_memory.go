package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	var kept [][]int
	for {
		kept = append(kept, make([]int, 1<<17))
	}
}
