package main

import (
	"io"

	"github.com/picloud/picloud/sdk/picloud"
)

func Handle(ctx *picloud.Context) (any, error) {
	notes := ctx.Files("notes")
	w := notes.Writer("a.txt", "text/plain")
	for _, part := range [][]byte{{0, 255}, {'a'}} {
		if _, err := w.Write(part); err != nil {
			return nil, err
		}
	}
	made, err := w.Finish()
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(notes.Reader(made.ID))
	return []any{made.ID, len(content)}, err
}
