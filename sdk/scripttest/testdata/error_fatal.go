package main

import (
	"errors"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	return nil, picloud.Fatal(errors.New("never"))
}
