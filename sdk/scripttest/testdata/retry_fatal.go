package main

import (
	"errors"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	var value int
	return nil, ctx.Retry(func() error {
		if _, err := ctx.KV("c").Get("k", &value); err != nil {
			return err
		}
		return picloud.Fatal(errors.New("never"))
	}, nil)
}
