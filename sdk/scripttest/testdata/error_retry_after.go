package main

import (
	"errors"
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	return nil, picloud.RetryAfter(errors.New("busy"), 90*time.Second)
}
