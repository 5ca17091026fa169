package main

import "github.com/picloud/picloud/sdk/picloud"

type order struct {
	Total     int `json:"total"`
	ItemCount int `json:"item_count"`
}

func Handle(ctx *picloud.Context) (any, error) {
	orders := ctx.Docs("orders")
	if err := orders.Index("total", picloud.NumberIndex); err != nil {
		return nil, err
	}
	filter := picloud.Filter{"status": "open", "total": picloud.Filter{"$gte": 10}}
	docs, next, err := orders.Find(filter, &picloud.FindOptions{Sort: []string{"-total"}, Limit: 1})
	if err != nil {
		return nil, err
	}
	var o order
	first := docs[0]
	if err := first.JSON(&o); err != nil {
		return nil, err
	}
	more, _, err := orders.Find(filter, &picloud.FindOptions{Sort: []string{"-total"}, Limit: 1, Cursor: next})
	if err != nil {
		return nil, err
	}
	_, found, err := orders.FindOne(picloud.Filter{"status": "none"})
	return []any{first.ID, o.ItemCount, len(more), found}, err
}
