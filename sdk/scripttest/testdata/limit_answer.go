package main

import (
	"strings"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	return picloud.Response{Body: strings.Repeat("x", 2000)}, nil
}
