package main

import (
	"encoding/base64"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	b, err := base64.StdEncoding.DecodeString("Zm9v*m9v")
	return string(b), err
}
