package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

// Handle charges an order, once, however often it runs. What may pass is tried again: at once by Retry, later by the queue.
func Handle(ctx *picloud.Context) (any, error) {
	var message struct{ Order string }
	if err := ctx.Request.JSON(&message); err != nil {
		return nil, picloud.Fatal(err)
	}
	orders := ctx.KV("orders")
	entry, err := orders.Entry(message.Order)
	if err != nil {
		return nil, err
	}
	if entry.Version == 0 {
		return nil, picloud.Fatal(fmt.Errorf("there is no order %s", message.Order))
	}
	var order map[string]any
	if err := entry.JSON(&order); err != nil {
		return nil, err
	}
	if order["state"] == "paid" {
		return nil, nil
	}
	var receipt string
	err = ctx.Retry(func() error {
		receipt, err = pay(ctx, message.Order, order["cents"])
		return err
	}, &picloud.RetryOptions{Attempts: 2, Backoff: 50 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	delete(order, "why")
	order["state"], order["receipt"] = "paid", receipt
	_, err = orders.SetIf(message.Order, order, entry.Version)
	return nil, err
}

// pay asks the payment provider, which knows by the key what it has charged already.
func pay(ctx *picloud.Context, id string, cents any) (receipt string, err error) {
	address, err := ctx.Secrets.Text("PAYMENT_URL")
	if err != nil {
		return "", err
	}
	answer, err := ctx.HTTP.Do(&picloud.HTTPRequest{
		Method: "POST", URL: address, Headers: picloud.Headers{"Idempotency-Key": {id}}, Body: map[string]any{"cents": cents}, Timeout: 5 * time.Second,
	})
	switch {
	case err != nil:
		return "", err
	case answer.Status == 402:
		return "", picloud.Fatal(errors.New("the payment is refused"))
	case answer.Status != 200:
		return "", fmt.Errorf("the payment provider answers %d", answer.Status)
	}
	var paid struct{ Receipt string }
	err = json.Unmarshal(answer.Body, &paid)
	return paid.Receipt, err
}
