package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	found, err := ctx.Call("price", map[string]int{"item": 7})
	if err != nil {
		return nil, err
	}
	var price struct {
		Cents int `json:"cents"`
	}
	if err := found.JSON(&price); err != nil {
		return nil, err
	}
	none, err := ctx.Call("price", "text", &picloud.CallOptions{Headers: picloud.Headers{"X-A": {"1"}}, Timeout: 1500 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	return []int{found.Status, price.Cents, none.Status}, nil
}
