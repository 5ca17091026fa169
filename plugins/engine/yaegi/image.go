package yaegi

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"maps"
	"reflect"

	"github.com/picloud/picloud/plugins/engine/yaegi/symbols"
)

// maxPixels bounds images: a file of some hundred bytes can say that it has billions of pixels, and to decode it takes memory for
// all of them at once.
const maxPixels = 16 << 20

// imageTable is one of the packages of images with functions that refuse images which are too large.
func imageTable(path string) symbols.Table {
	table := maps.Clone(symbols.For(path))
	switch path {
	case "image/png":
		table["Decode"] = reflect.ValueOf(func(r io.Reader) (image.Image, error) { return decode(r, png.DecodeConfig, png.Decode) })
	case "image/jpeg":
		table["Decode"] = reflect.ValueOf(func(r io.Reader) (image.Image, error) { return decode(r, jpeg.DecodeConfig, jpeg.Decode) })
	default:
		table["Decode"] = reflect.ValueOf(func(r io.Reader) (image.Image, string, error) {
			format := ""
			m, err := decode(r, func(r io.Reader) (c image.Config, err error) {
				c, format, err = image.DecodeConfig(r)
				return c, err
			}, func(r io.Reader) (image.Image, error) {
				m, _, err := image.Decode(r)
				return m, err
			})
			return m, format, err
		})
		table["NewGray"] = reflect.ValueOf(func(r image.Rectangle) *image.Gray { return image.NewGray(pixels(r)) })
		table["NewNRGBA"] = reflect.ValueOf(func(r image.Rectangle) *image.NRGBA { return image.NewNRGBA(pixels(r)) })
		table["NewRGBA"] = reflect.ValueOf(func(r image.Rectangle) *image.RGBA { return image.NewRGBA(pixels(r)) })
	}
	return table
}

// decode looks at how large an image is before it is decoded.
func decode(r io.Reader, config func(io.Reader) (image.Config, error), all func(io.Reader) (image.Image, error)) (image.Image, error) {
	var head bytes.Buffer
	c, err := config(io.TeeReader(r, &head))
	if err != nil {
		return nil, err
	}
	if c.Width > maxPixels || c.Height > maxPixels || c.Width*c.Height > maxPixels {
		return nil, fmt.Errorf("image: %d x %d is more than %d pixels", c.Width, c.Height, maxPixels)
	}
	return all(io.MultiReader(&head, r))
}

// pixels looks at how large an image becomes that a script makes.
func pixels(r image.Rectangle) image.Rectangle {
	size(max(0, r.Dx()), 1)
	size(max(0, r.Dy()), 1)
	size(max(0, r.Dx())*max(0, r.Dy()), 4)
	return r
}
