package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	users := ctx.KV("users")
	items, next, err := users.List(&picloud.ListOptions{Prefix: "a", Limit: 2})
	if err != nil {
		return nil, err
	}
	first, second := items[0], items[1]
	var value any
	if err := second.JSON(&value); err != nil {
		return nil, err
	}
	more, _, err := users.List(&picloud.ListOptions{Prefix: "a", Limit: 2, Cursor: next})
	return []any{first.Key, second.Key, value, len(more)}, err
}
