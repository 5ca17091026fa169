package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	mail := ctx.Queue("mail")
	depth, err := mail.Depth()
	if err != nil {
		return nil, err
	}
	purged, more, err := mail.Purge()
	return []any{depth.Waiting, depth.Running, depth.OldestAge.Milliseconds(), purged, more}, err
}
