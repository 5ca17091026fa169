package main

import (
	"bytes"
	"image"
	"image/color"
	_ "image/jpeg"
	"image/png"

	"github.com/picloud/picloud/sdk/picloud"
)

const (
	side      = 128       // pixels of the longer one
	samples   = 4         // of a picture's pixels, either way, for each of the thumbnail's
	maxPixels = 8_000_000 // as pictures.go has them
)

// Handle makes the thumbnail of a picture that was kept.
func Handle(ctx *picloud.Context) (any, error) {
	var event struct{ ID string }
	if err := ctx.Request.JSON(&event); err != nil {
		return nil, err
	}
	data, found, err := ctx.Files("pictures").Get(event.ID)
	if err != nil || !found { // it is deleted already
		return nil, err
	}
	// The size is looked at before anything is decoded.
	config, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || config.Width*config.Height > maxPixels {
		return nil, picloud.Fatal(image.ErrFormat)
	}
	picture, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, picloud.Fatal(err)
	}
	var out bytes.Buffer
	if err := png.Encode(&out, shrink(picture)); err != nil {
		return nil, err
	}
	file, err := ctx.Files("thumbnails").Create("thumbnail.png", "image/png", out.Bytes())
	if err != nil {
		return nil, err
	}
	_, err = ctx.KV("thumbnails").Set(event.ID, file.ID)
	return nil, err
}

// shrink averages some pixels for each of the smaller picture's.
func shrink(from image.Image) image.Image {
	b := from.Bounds()
	longer := max(b.Dx(), b.Dy(), side)
	width, height := max(1, b.Dx()*side/longer), max(1, b.Dy()*side/longer)
	to := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := 0; y < height; y++ {
		for x := 0; x < width; x++ {
			var r, g, bl, a uint32
			for i := 0; i < samples*samples; i++ {
				sx := b.Min.X + (x*samples+i%samples)*b.Dx()/(width*samples)
				sy := b.Min.Y + (y*samples+i/samples)*b.Dy()/(height*samples)
				pr, pg, pb, pa := from.At(sx, sy).RGBA() // premultiplied, up to 65535
				r, g, bl, a = r+pr, g+pg, bl+pb, a+pa
			}
			const n = samples * samples * 257
			to.Set(x, y, color.RGBA{R: uint8(r / n), G: uint8(g / n), B: uint8(bl / n), A: uint8(a / n)})
		}
	}
	return to
}
