package yaegi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/png"
	"testing"
	"time"

	"github.com/picloud/picloud/plugins/engine/yaegi"
	"github.com/picloud/picloud/sdk/fault"
)

// picture is a PNG that says it has so many pixels, and has none.
func picture(t *testing.T, width, height uint32) string {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		t.Fatal(err)
	}
	b := out.Bytes()
	header := b[12:29] // behind the signature and the chunk's length
	binary.BigEndian.PutUint32(header[4:], width)
	binary.BigEndian.PutUint32(header[8:], height)
	binary.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(header))
	return string(b)
}

func TestLibrary(t *testing.T) {
	t.Parallel()
	e := yaegi.New()
	const decode = `m, err := png.Decode(bytes.NewReader(ctx.Request.Body)); if err != nil { return err.Error(), nil }; return m.Bounds().String(), nil`
	for name, c := range map[string]struct {
		imports    []string
		body, data string
		want       string
	}{
		"numbers drawn":  {[]string{"math/rand/v2"}, `a, b := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(1, 2)); return a.IntN(1000) == b.IntN(1000), nil`, "", `true`},
		"random bytes":   {nil, `b, err := picloud.RandomBytes(picloud.MaxRandomBytes); return len(b), err`, "", `65536`},
		"too many":       {nil, `_, err := picloud.RandomBytes(picloud.MaxRandomBytes + 1); return err.Error(), nil`, "", `"RandomBytes: from 0 to 65536 bytes are given at a time, not 65537"`},
		"less than none": {nil, `_, err := picloud.RandomBytes(-1); return err.Error(), nil`, "", `"RandomBytes: from 0 to 65536 bytes are given at a time, not -1"`},
		"a pattern":      {[]string{"regexp"}, `re, err := regexp.Compile("x{1000}"); return re.MatchString("x"), err`, "", `false`},
		"large patterns": {
			[]string{"regexp", "strings"},
			`large := strings.Repeat("x{1000}", 30)
	_, a := regexp.Compile(large); _, b := regexp.CompilePOSIX(large); _, c := regexp.MatchString(large, ""); _, d := regexp.Match(large, nil); _, e := regexp.MatchReader(large, strings.NewReader(""))
	for _, err := range []error{b, c, d, e} { if err.Error() != a.Error() { return err.Error(), nil } }
	return a.Error(), nil`,
			"", `"regexp: the pattern takes more than 10000 steps: repeat less in it"`,
		},
		"a picture":       {[]string{"bytes", "image/png"}, decode, picture(t, 1, 1), `"(0,0)-(1,1)"`},
		"a bomb":          {[]string{"bytes", "image/png"}, decode, picture(t, 4097, 4096), `"image: 4097 x 4096 is more than 16777216 pixels"`},
		"as many as fit":  {[]string{"bytes", "image/png"}, decode, picture(t, 4096, 4096), `"png: invalid format: not enough pixel data"`},
		"a large bomb":    {[]string{"bytes", "image/png"}, decode, picture(t, 1<<31-1, 1<<31-1), `"png: unsupported feature: dimension overflow"`},
		"a long bomb":     {[]string{"bytes", "image/png"}, decode, picture(t, 1<<25, 1), `"image: 33554432 x 1 is more than 16777216 pixels"`},
		"of any format":   {[]string{"bytes", "image", "image/png"}, `_, format, err := image.Decode(bytes.NewReader(ctx.Request.Body)); _ = png.BestSpeed; return []any{format, err == nil}, nil`, picture(t, 1, 1), `["png",true]`},
		"a bomb likewise": {[]string{"bytes", "image"}, `_, format, err := image.Decode(bytes.NewReader(ctx.Request.Body)); return []any{format, err.Error()}, nil`, picture(t, 5000, 5000), `["png","image: 5000 x 5000 is more than 16777216 pixels"]`},
		"a new picture":   {[]string{"image"}, `return []any{image.NewRGBA(image.Rect(0, 0, 1024, 1024)).Stride, image.NewGray(image.Rect(0, 0, 2, 3)).Rect.String(), image.NewNRGBA(image.Rect(5, 5, 1, 1)).Stride}, nil`, "", `[4096,"(0,0)-(2,3)",16]`},
		"retry":           {[]string{"errors", "time"}, `n := 0; err := ctx.Retry(func() error { n++; return errors.New("no") }, &picloud.RetryOptions{Attempts: 5, Backoff: time.Microsecond}); return []any{n, err.Error()}, nil`, "", `[5,"no"]`},
		"retry at once":   {nil, `n := 0; err := ctx.Retry(func() error { n++; return nil }, nil); return n, err`, "", `1`},
		"wrong attempts":  {nil, `return ctx.Retry(nil, &picloud.RetryOptions{Attempts: 101}).Error(), nil`, "", `"retry: there may be up to 100 attempts, not 101"`},
		"wrong back-off":  {[]string{"time"}, `return ctx.Retry(nil, &picloud.RetryOptions{Backoff: time.Hour + 1}).Error(), nil`, "", `"retry: the back-off may be up to 1h0m0s, not 1h0m0.000000001s"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			load(t, e, name, script(c.imports, c.body))
			a, err := invoke(t.Context(), e, name, c.data)
			if err != nil || a.body.String() != c.want {
				t.Errorf("%v\n%s\nnot\n%s", err, a.body.String(), c.want)
			}
		})
	}
}

// What a script makes of pictures, and does in a retry, ends as limits say.
func TestLibraryIsContained(t *testing.T) {
	e := yaegi.New()
	load(t, e, "next", script(nil, `return 1, nil`))
	for name, c := range map[string]struct {
		imports []string
		body    string
		kind    fault.Kind
		timeout time.Duration
	}{
		"a picture that is too large": {[]string{"image"}, `return image.NewRGBA(image.Rect(0, 0, 4097, 4096)).Stride, nil`, fault.Limit, time.Minute},
		"one that is long":            {[]string{"image"}, `return image.NewGray(image.Rect(0, 0, 1, 1<<60)).Stride, nil`, fault.Limit, time.Minute},
		"one that is wide":            {[]string{"image"}, `return image.NewNRGBA(image.Rect(0, 0, 1<<60, 1)).Stride, nil`, fault.Limit, time.Minute},
		"one that fits":               {[]string{"image"}, `return image.NewRGBA(image.Rect(0, 0, 4096, 4096)).Stride, nil`, "", time.Minute},
		"many pictures":               {[]string{"image"}, `var all []*image.RGBA; for { all = append(all, image.NewRGBA(image.Rect(0, 0, 1000, 1000))) }`, fault.Limit, time.Minute},
		"a pattern that must be":      {[]string{"regexp"}, `return regexp.MustCompile("(x{1000}){2}" ).String(), nil`, fault.ScriptPanic, time.Minute},
		"memory in a retry":           {nil, `return nil, ctx.Retry(func() error { var all [][]byte; for { all = append(all, make([]byte, 1<<20)) } }, nil)`, fault.Limit, time.Minute},
		"time in a retry":             {nil, `return nil, ctx.Retry(func() error { for { } }, nil)`, fault.Deadline, 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			load(t, e, name, script(c.imports, c.body))
			ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
			defer cancel()
			_, err := invoke(ctx, e, name, "")
			if f := fault.From(err); c.kind == "" && err != nil || c.kind != "" && (f == nil || f.Kind != c.kind || f.Origin != fault.Script) {
				t.Errorf("%+v", f)
			}
			if _, err := invoke(t.Context(), e, "next", ""); err != nil {
				t.Errorf("the next call: %v", err)
			}
			collect()
		})
	}
}
