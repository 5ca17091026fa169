package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

// sale is one document.
type sale struct {
	Product string    `json:"product"`
	Cents   int       `json:"cents"`
	At      time.Time `json:"at"`
}

// Handle notes a sale (POST /sales), and gives the report of a day (GET /reports/{day}) as CSV.
func Handle(ctx *picloud.Context) (any, error) {
	if day := ctx.Request.Param("day"); day != "" {
		var table string
		if found, err := ctx.KV("reports").Get(day, &table); err != nil || !found {
			return picloud.Response{Status: 404, Body: map[string]string{"error": "there is no report of that day"}}, err
		}
		return picloud.Response{Headers: picloud.Headers{"Content-Type": {"text/csv"}}, Body: table}, nil
	}
	s := sale{At: time.Now()}
	if err := ctx.Request.JSON(&s); err != nil || s.Product == "" || s.Cents <= 0 {
		return picloud.Response{Status: 400, Body: map[string]string{"error": "a sale has a product and cents"}}, nil
	}
	s.At = s.At.UTC()
	doc, err := ctx.Docs("sales").Create(s)
	return picloud.Response{Status: 201, Body: map[string]string{"id": doc.ID}}, err
}
