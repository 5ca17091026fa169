package main

import (
	"math/rand/v2"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	b, err := picloud.RandomBytes(16)
	n, f, id := 5+rand.IntN(2), rand.Float64(), picloud.UUID()
	return []any{len(b), n == 5 || n == 6, f >= 0 && f < 1, len(id), id[14:15], id != picloud.UUID()}, err
}
