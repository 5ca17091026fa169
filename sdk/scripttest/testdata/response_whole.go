package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	return picloud.Response{
		Status:  201,
		Headers: picloud.Headers{"Location": {"/things/7"}, "X-Two": {"a", "b"}},
		Body:    map[string]int{"id": 7},
	}, nil
}
