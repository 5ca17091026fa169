package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"sort"
	"strconv"
	"time"

	"github.com/picloud/picloud/sdk/picloud"
)

// zone is where the day begins and ends.
const zone = "Europe/Berlin"

// Handle adds up the sales of the day before, keeps the table, and sends it.
func Handle(ctx *picloud.Context) (any, error) {
	var tick struct {
		ScheduledAt time.Time `json:"scheduled_at"`
	}
	if err := ctx.Request.JSON(&tick); err != nil {
		return nil, picloud.Fatal(err)
	}
	place, err := time.LoadLocation(zone)
	if err != nil {
		return nil, err
	}
	year, month, today := tick.ScheduledAt.In(place).Date()
	from, to := time.Date(year, month, today-1, 0, 0, 0, 0, place), time.Date(year, month, today, 0, 0, 0, 0, place)
	day := from.Format("2006-01-02")
	count, cents, err := addUp(ctx, from, to)
	if err != nil {
		return nil, err
	}
	table, total, err := tabulate(count, cents)
	if err != nil {
		return nil, err
	}
	if _, err := ctx.KV("reports").Set(day, table); err != nil {
		return nil, err
	}
	reader, err := ctx.Secrets.Text("REPORT_TO")
	if err != nil {
		return nil, err
	}
	_, err = ctx.SendEmail(&picloud.Email{
		To: []string{reader}, Subject: "Sales of " + day, Text: fmt.Sprintf("%s were sold on %s.\n", money(total), day),
		Attachments: []picloud.Attachment{{Name: "sales-" + day + ".csv", ContentType: "text/csv", Data: []byte(table)}},
	}, &picloud.Delivery{IdempotencyKey: "report-" + day}) // one message, however often this runs
	return nil, err
}

// addUp reads the sales of a time page by page, and returns how many there were of each product, and for how much.
func addUp(ctx *picloud.Context, from, to time.Time) (count, cents map[string]int, err error) {
	sales := ctx.Docs("sales")
	if err := sales.Index("at", picloud.TimeIndex); err != nil { // there is nothing to do from the second time on
		return nil, nil, err
	}
	count, cents = map[string]int{}, map[string]int{}
	filter := picloud.Filter{"at": picloud.Filter{"$gte": from.UTC(), "$lt": to.UTC()}}
	for cursor := ""; ; {
		docs, next, err := sales.Find(filter, &picloud.FindOptions{Sort: []string{"at"}, Limit: 200, Cursor: cursor})
		if err != nil {
			return nil, nil, err
		}
		for _, d := range docs {
			var s struct {
				Product string
				Cents   int
			}
			if err := d.JSON(&s); err != nil {
				return nil, nil, err
			}
			count[s.Product]++
			cents[s.Product] += s.Cents
		}
		if cursor = next; cursor == "" {
			return count, cents, nil
		}
	}
}

// tabulate writes a line for each product.
func tabulate(count, cents map[string]int) (table string, total int, err error) {
	var products []string
	for p := range count {
		products = append(products, p)
		total += cents[p]
	}
	sort.Strings(products)
	rows := [][]string{{"product", "sold", "for"}}
	for _, p := range products {
		rows = append(rows, []string{p, strconv.Itoa(count[p]), money(cents[p])})
	}
	var out bytes.Buffer
	err = csv.NewWriter(&out).WriteAll(append(rows, []string{"all", "", money(total)}))
	return out.String(), total, err
}

func money(cents int) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }
