package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	for _, data := range []any{"text", []byte{255}, nil} {
		if _, err := ctx.Invoke("bill", data); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
