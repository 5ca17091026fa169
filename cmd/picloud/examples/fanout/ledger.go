package main

import "github.com/picloud/picloud/sdk/picloud"

// Handle books a payment (from the queue), or says what a customer has paid (GET /ledger/{customer}).
func Handle(ctx *picloud.Context) (any, error) {
	balances := ctx.KV("balances")
	if customer := ctx.Request.Param("customer"); customer != "" {
		var cents int64
		_, err := balances.Get(customer, &cents)
		return map[string]any{"customer": customer, "cents": cents}, err
	}
	var p struct {
		ID       string `json:"id"`
		Customer string `json:"customer"`
		Amount   int64  `json:"amount"`
	}
	if err := ctx.Request.JSON(&p); err != nil {
		return nil, picloud.Fatal(err)
	}
	booked := ctx.KV("booked")
	if done, err := booked.Has(p.ID); err != nil || done {
		return nil, err // a message may come twice
	}
	sum, err := balances.Increment(p.Customer, p.Amount)
	if err != nil {
		return nil, err
	}
	ctx.Log.Info("booked", p.ID, sum)
	_, err = booked.Set(p.ID, true)
	return nil, err
}
