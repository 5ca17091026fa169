package main

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/picloud/picloud/sdk/picloud"
)

// Handle notes with an order that its charge was given up, and why. What may succeed another time is left to people.
func Handle(ctx *picloud.Context) (any, error) {
	var letter struct{ Payload, Reason, Error string }
	if err := ctx.Request.JSON(&letter); err != nil {
		return nil, err
	}
	var message struct{ Order string }
	if err := json.Unmarshal([]byte(letter.Payload), &message); err != nil {
		return nil, err
	}
	orders := ctx.KV("orders")
	entry, err := orders.Entry(message.Order)
	if err != nil || entry.Version == 0 {
		return nil, err
	}
	var order map[string]any
	if err := entry.JSON(&order); err != nil || order["state"] == "paid" {
		return nil, err
	}
	why, _, _ := strings.Cut(letter.Error, "\n") // where it happened is for the log
	order["state"], order["why"] = "failed", letter.Reason+": "+why
	_, err = orders.SetIf(message.Order, order, entry.Version)
	if err == nil && letter.Reason == "exhausted" {
		err = errors.New("somebody has to put it back") // a handler that fails leaves the dead letter open
	}
	return nil, err
}
