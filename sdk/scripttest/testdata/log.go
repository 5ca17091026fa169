package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	ctx.Log.Trace("a")
	ctx.Log.Debug("b")
	ctx.Log.Info("c", map[string]int{"n": 1})
	ctx.Log.Warn("d", 1, "two")
	ctx.Log.Error("é✓")
	return nil, nil
}
