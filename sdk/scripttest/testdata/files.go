package main

import "github.com/picloud/picloud/sdk/picloud"

func Handle(ctx *picloud.Context) (any, error) {
	notes := ctx.Files("notes")
	made, err := notes.Create("a.txt", "text/plain", []byte{0, 255})
	if err != nil {
		return nil, err
	}
	known, _, err := notes.Head(made.ID)
	if err != nil {
		return nil, err
	}
	content, _, err := notes.Get(made.ID)
	if err != nil {
		return nil, err
	}
	_, found, err := notes.Get("f2")
	if err != nil {
		return nil, err
	}
	all, _, err := notes.List(&picloud.ListOptions{Limit: 5})
	if err != nil {
		return nil, err
	}
	first := all[0]
	deleted, err := notes.Delete(made.ID)
	return []any{made.ID, known.ContentType, known.Size, []int{int(content[0]), int(content[1])}, !found, first.Name, deleted}, err
}
