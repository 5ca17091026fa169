package main

import "github.com/picloud/picloud/sdk/picloud"

// Handle puts a payment into the queue of the ledger: those of one customer are booked one after the other, and each of them once.
func Handle(ctx *picloud.Context) (any, error) {
	var p struct {
		ID       string `json:"id"`
		Customer string `json:"customer"`
	}
	if err := ctx.Request.JSON(&p); err != nil {
		return nil, picloud.Fatal(err)
	}
	return ctx.Queue("ledger").Send(ctx.Request.Body, &picloud.Delivery{OrderingKey: p.Customer, IdempotencyKey: p.ID})
}
