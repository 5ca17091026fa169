package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	key, err := ctx.Secrets.Text("KEY")
	if err != nil {
		return nil, err
	}
	var token map[string]int
	found, err := ctx.Secrets.Get("NONE", &token)
	if err != nil {
		return nil, err
	}
	if err := ctx.Secrets.Set("TOKEN", map[string]int{"a_b": 1}); err != nil {
		return nil, err
	}
	if _, err := ctx.Secrets.Get("TOKEN", &token); err != nil {
		return nil, err
	}
	deleted, err := ctx.Secrets.Delete("TOKEN")
	if err != nil {
		return nil, err
	}
	names, err := ctx.Secrets.List()
	return []any{key, found, token["a_b"], deleted, names}, err
}
