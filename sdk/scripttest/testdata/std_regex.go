package main

import (
	"regexp"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	const text = "order 17 of 2026-11-28, order 18"
	date := regexp.MustCompile(`(?P<year>\d{4})-\d\d-(\d\d)`).FindStringSubmatch(text)
	order := regexp.MustCompile(`order (\d+)`)
	var numbers []string
	for _, found := range order.FindAllStringSubmatch(text, -1) {
		numbers = append(numbers, found[1])
	}
	return []any{
		order.MatchString(text), date, numbers, order.ReplaceAllString(text, "#$1"), regexp.MustCompile(`,\s*|\s+of\s+`).Split(text, -1),
		regexp.MustCompile(`^order \d+$`).MatchString(text), regexp.MustCompile(regexp.QuoteMeta("7 of 2026")).MatchString(text),
	}, nil
}
