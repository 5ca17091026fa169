package main

import (
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	t, err := time.Parse(time.RFC3339, "2026-01-02T03:04:05+02:00")
	if err != nil {
		return nil, err
	}
	d, err := time.ParseDuration("1h30m")
	if err != nil {
		return nil, err
	}
	day, err := time.Parse("02.01.2006 15:04", "01.02.2026 15:04")
	return []any{
		t.UTC().Format(time.RFC3339), t.Add(d).In(time.UTC).Format(time.RFC3339), t.UTC().Format("Mon, 02 Jan 2006"), day.Format(time.RFC3339),
		time.Now().Year() >= 2026,
	}, err
}
