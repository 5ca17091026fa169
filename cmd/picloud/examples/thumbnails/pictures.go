package main

import (
	"bytes"
	"fmt"
	"image"
	_ "image/jpeg"
	_ "image/png"

	"github.com/picloud/picloud/sdk/picloud"
)

// maxPixels bounds pictures: what a small file says of its size is what memory is taken for.
const maxPixels = 8_000_000

// Handle keeps a picture (POST /pictures), and gives its thumbnail (GET /pictures/{id}/thumbnail).
func Handle(ctx *picloud.Context) (any, error) {
	if id := ctx.Request.Param("id"); id != "" {
		return thumbnail(ctx, id)
	}
	config, format, err := image.DecodeConfig(bytes.NewReader(ctx.Request.Body))
	switch {
	case err != nil:
		return refuse(415, "this is neither PNG nor JPEG: "+err.Error()), nil
	case config.Width > maxPixels || config.Height > maxPixels || config.Width*config.Height > maxPixels:
		return refuse(413, fmt.Sprintf("%d x %d is more than %d pixels", config.Width, config.Height, maxPixels)), nil
	}
	file, err := ctx.Files("pictures").Create("picture."+format, "image/"+format, ctx.Request.Body)
	return picloud.Response{Status: 201, Body: map[string]string{"id": file.ID}}, err
}

func thumbnail(ctx *picloud.Context, picture string) (any, error) {
	var id string
	found, err := ctx.KV("thumbnails").Get(picture, &id)
	if err != nil {
		return nil, err
	}
	if !found {
		return refuse(404, "there is no thumbnail, or not yet"), nil
	}
	data, _, err := ctx.Files("thumbnails").Get(id)
	return picloud.Response{Headers: picloud.Headers{"Content-Type": {"image/png"}}, Body: data}, err
}

func refuse(status int, why string) picloud.Response {
	return picloud.Response{Status: status, Body: map[string]string{"error": why}}
}
