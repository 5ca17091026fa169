package main

import (
	"errors"

	"github.com/picloud/picloud/sdk/picloud"
)

// Payment is what the payment service tells of one.
type Payment struct {
	Type     string `json:"type"` // such as "payment.paid"
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Amount   int64  `json:"amount"` // in cents
}

// Handle passes on what the payment service has sent, to whoever takes the topic. The platform has checked the signature.
func Handle(ctx *picloud.Context) (any, error) {
	var p Payment
	if err := ctx.Request.JSON(&p); err != nil {
		return nil, picloud.Fatal(err) // it will not be better the next time
	}
	if p.ID == "" || p.Customer == "" {
		return nil, picloud.Fatal(errors.New("a payment has an id and a customer"))
	}
	told, err := ctx.Publish(p.Type, p)
	ctx.Log.Info("passed on", p.ID, told)
	return nil, err
}
