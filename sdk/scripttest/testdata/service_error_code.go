package main

import (
	"errors"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	_, err := ctx.Invoke("nobody", nil)
	var e *picloud.Error
	return []any{picloud.Code(err) == picloud.Overloaded, errors.As(err, &e), e.Message, e.RetryAfter.Milliseconds()}, nil
}
