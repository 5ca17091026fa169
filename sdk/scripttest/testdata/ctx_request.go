package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	r := &ctx.Request
	return []any{
		r.Method, r.Host, r.Path, r.Rest, r.Params, r.Headers, r.Query,
		r.Header("x-one"), r.Header("X-None"), r.Param("id"), r.Param("none"), r.Query.Get("q"), r.Query.Get("none"),
	}, nil
}
