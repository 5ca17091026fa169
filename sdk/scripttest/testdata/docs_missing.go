package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	_, err := ctx.Docs("orders").Update("0190", map[string]any{"total": 1})
	return nil, err
}
