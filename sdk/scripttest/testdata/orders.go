package main

import (
	"sort"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	var orders []struct {
		Customer string
		Lines    []struct {
			Item  string
			Count int
			Cents int
		}
	}
	if err := ctx.Request.JSON(&orders); err != nil {
		return nil, err
	}
	totals := map[string]int{}
	for _, o := range orders {
		for _, l := range o.Lines {
			totals[o.Customer] += l.Count * l.Cents
		}
	}
	names := make([]string, 0, len(totals))
	for name := range totals {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool { return totals[names[i]] > totals[names[j]] })
	best := []any{}
	for _, name := range names[:3] {
		best = append(best, map[string]any{"customer": name, "cents": totals[name]})
	}
	return map[string]any{"orders": len(orders), "best": best}, nil
}
