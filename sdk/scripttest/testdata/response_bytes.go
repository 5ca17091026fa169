package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return picloud.Response{Body: []byte{0, 255, 1}}, nil
}
