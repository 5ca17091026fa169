package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return picloud.Response{Headers: picloud.Headers{"Content-Length": {"7"}}}, nil
}
