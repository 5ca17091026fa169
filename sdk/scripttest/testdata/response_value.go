package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return map[string]any{"list": []any{1, "two", nil, true}}, nil
}
