package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	var v any
	if err := ctx.Request.JSON(&v); err != nil {
		return nil, err
	}
	return map[string]any{"same": v, "own": []any{nil, true, false, 0, -1, 1.5, "\"\\\n\u0001é✓😀", []any{}, map[string]any{}}}, nil
}
