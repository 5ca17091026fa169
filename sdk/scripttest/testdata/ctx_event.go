package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	e := ctx.Event
	return []string{e.ID, e.Source, e.Type, e.Subject, e.Time.Format(time.RFC3339Nano), e.ContentType}, nil
}
