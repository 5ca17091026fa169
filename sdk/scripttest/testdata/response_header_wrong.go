package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return picloud.Response{Headers: picloud.Headers{"X-A": {"a\nb"}}}, nil
}
