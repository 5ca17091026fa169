package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	r := &ctx.Request
	return []any{r.Method, r.Path, len(r.Headers), len(r.Params), r.Header("a"), string(r.Body)}, nil
}
