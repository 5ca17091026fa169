package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	head, err := ctx.HTTP.Head("https://example.com/")
	if err != nil {
		return nil, err
	}
	patch, err := ctx.HTTP.Patch("https://example.com/", []int{1})
	if err != nil {
		return nil, err
	}
	return []int{head.Status, patch.Status}, nil
}
