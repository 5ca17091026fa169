package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

type order struct {
	Total     int `json:"total"`
	ItemCount int `json:"item_count"`
}

func Handle(ctx *picloud.Context) (any, error) {
	orders := ctx.Docs("orders")
	made, err := orders.Create(order{12, 1})
	if err != nil {
		return nil, err
	}
	doc, _, err := orders.Doc(made.ID)
	if err != nil {
		return nil, err
	}
	var o order
	if err := doc.JSON(&o); err != nil {
		return nil, err
	}
	changed, err := orders.UpdateIf(made.ID, order{13, 2}, made.Version)
	if err != nil {
		return nil, err
	}
	deleted, err := orders.Delete(made.ID)
	if err != nil {
		return nil, err
	}
	found, err := orders.Get(made.ID, &o)
	return []any{made.ID, doc.Version, o.ItemCount, changed.Version, changed.UpdatedAt.Format(time.RFC3339), deleted, found}, err
}
