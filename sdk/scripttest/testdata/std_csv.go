package main

import (
	"encoding/csv"
	"strings"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	commas := csv.NewReader(strings.NewReader("a,\"b \"\"q\"\" c\",\n\n1;2,\"x\ny\"\n"))
	commas.FieldsPerRecord = -1
	rows, err := commas.ReadAll()
	if err != nil {
		return nil, err
	}
	semicolons := csv.NewReader(strings.NewReader("1;2,3"))
	semicolons.Comma = ';'
	others, err := semicolons.ReadAll()
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	w := csv.NewWriter(&text)
	err = w.WriteAll([][]string{{"a", "b,c", "d\"e", ""}, {" f", "g\nh"}})
	return []any{rows, others, text.String()}, err
}
