package main

import (
	"fmt"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	fmt.Println("printed", 1)
	return nil, nil
}
