package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

type user struct {
	Name  string   `json:"name"`
	Langs []string `json:"langs"`
}

func Handle(ctx *picloud.Context) (any, error) {
	users := ctx.KV("users")
	var ada user
	found, err := users.Get("ada", &ada)
	if err != nil {
		return nil, err
	}
	version, err := users.SetIf("ada", user{"Ada", []string{"go"}}, 0, &picloud.SetOptions{TTL: time.Minute})
	if err != nil {
		return nil, err
	}
	if _, err := users.Get("ada", &ada); err != nil {
		return nil, err
	}
	item, err := users.Entry("ada")
	if err != nil {
		return nil, err
	}
	has, err := users.Has("ada")
	if err != nil {
		return nil, err
	}
	sum, err := users.Increment("n", 5)
	if err != nil {
		return nil, err
	}
	deleted, err := users.Delete("ada")
	return []any{found, version, ada.Name, item.Version, item.ExpiresAt.Format(time.RFC3339), has, sum, deleted}, err
}
