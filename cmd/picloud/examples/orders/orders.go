package main

import (
	"encoding/json"

	"github.com/picloud/picloud/sdk/picloud"
)

// order is what is known of one.
type order struct {
	Customer string `json:"customer"`
	Item     string `json:"item"`
	Cents    int    `json:"cents"`
	State    string `json:"state"` // new, paid or failed
	Receipt  string `json:"receipt,omitempty"`
	Why      string `json:"why,omitempty"` // it failed
}

// Handle takes an order (PUT /orders/{id}), which may be sent again and again, and says how it stands (GET /orders/{id}).
func Handle(ctx *picloud.Context) (any, error) {
	id, orders := ctx.Request.Param("id"), ctx.KV("orders")
	if ctx.Request.Method == "GET" {
		var o order
		if found, err := orders.Get(id, &o); err != nil || !found {
			return picloud.Response{Status: 404, Body: map[string]string{"error": "there is no such order"}}, err
		}
		return o, nil
	}
	var o order
	if err := json.Unmarshal(ctx.Request.Body, &o); err != nil || o.Customer == "" || o.Item == "" || o.Cents <= 0 {
		return picloud.Response{Status: 400, Body: map[string]string{"error": "an order has a customer, an item and cents"}}, nil
	}
	o.State, o.Receipt, o.Why = "new", "", ""
	_, err := orders.SetIf(id, o, 0)
	if err != nil && picloud.Code(err) != picloud.Conflict { // with a conflict the order is there, and perhaps not in the queue
		return nil, err
	}
	_, err = ctx.Queue("charges").Send(map[string]string{"order": id}, &picloud.Delivery{
		IdempotencyKey: id,         // one charge, however often the order is sent
		OrderingKey:    o.Customer, // one after the other
	})
	return picloud.Response{Status: 202, Body: map[string]string{"order": id}}, err
}
