package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) { return ctx.Sink("nowhere").Send(1) }
