package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	none, err := ctx.HTTP.Get("https://example.com/a")
	if err != nil {
		return nil, err
	}
	made, err := ctx.HTTP.Post("https://example.com/b", map[string]int{"n": 1})
	if err != nil {
		return nil, err
	}
	var b struct{ ID int }
	if err := made.JSON(&b); err != nil {
		return nil, err
	}
	put, err := ctx.HTTP.Put("https://example.com/b", "text")
	if err != nil {
		return nil, err
	}
	found, err := ctx.HTTP.Do(&picloud.HTTPRequest{
		Method: "PROPFIND", URL: "https://example.com/c", Headers: picloud.Headers{"X-A": {"1"}}, Body: []byte{255},
		Timeout: 1500 * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	return []any{
		none.Status, none.Headers["X-B"][1], none.Headers["X_c"][0], none.Text(), b.ID, put.Status, len(found.Body),
	}, nil
}
