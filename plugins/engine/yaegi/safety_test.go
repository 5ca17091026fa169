package yaegi_test

import (
	"context"
	"encoding/json"
	"path"
	"slices"
	"testing"
	"time"

	"github.com/traefik/yaegi/interp"

	"github.com/picloud/picloud/plugins/engine/yaegi"
	"github.com/picloud/picloud/plugins/engine/yaegi/symbols"
	"github.com/picloud/picloud/sdk/picloud"
)

// BenchmarkSafety is what it costs that a script is checked, rewritten, watched and can be stopped: the same script in this
// engine and in the interpreter alone, in turns. safe/bare is the ratio of the medians.
func BenchmarkSafety(b *testing.B) {
	const order = `{"lines":[{"item":"pear","count":3,"price":0.4},{"item":"desk","count":1,"price":249},{"item":"lamp","count":2,"price":39.9},` +
		`{"item":"chair","count":4,"price":89.5},{"item":"pen","count":20,"price":1.2}]}`
	for _, c := range []struct {
		name, src, body string
		calls           int // in a turn
	}{
		{"loop", script(nil, `sum := 0
	for i := 0; i < 1000000; i++ {
		sum += i % 7
	}
	return sum, nil`), "", 1},
		{"json", script([]string{"encoding/json", "sort"}, `var order struct { Lines []struct { Item string; Count int; Price float64 } }
	if err := json.Unmarshal(ctx.Request.Body, &order); err != nil {
		return nil, err
	}
	sort.Slice(order.Lines, func(i, j int) bool { return order.Lines[i].Price > order.Lines[j].Price })
	total := 0.0
	for _, l := range order.Lines {
		total += l.Price * float64(l.Count)
	}
	return map[string]any{"lines": order.Lines, "total": total}, nil`), order, 1000},
	} {
		b.Run(c.name, func(b *testing.B) {
			e := yaegi.New()
			load(b, e, "h", c.src)
			safe := func() ([]byte, error) {
				a, err := invoke(b.Context(), e, "h", c.body)
				return a.body.Bytes(), err
			}
			bare := bareHandler(b, c.src, c.body)
			a, err := safe()
			if err != nil {
				b.Fatal(err)
			}
			if want, err := bare(); err != nil || string(a) != string(want) {
				b.Fatalf("%s, alone %s: %v", a, want, err)
			}
			turn := func(call func() ([]byte, error)) float64 {
				began := time.Now()
				for range c.calls {
					if _, err := call(); err != nil {
						b.Fatal(err)
					}
				}
				return float64(time.Since(began).Nanoseconds()) / float64(c.calls)
			}
			var with, without []float64
			for b.Loop() {
				with = append(with, turn(safe))
				without = append(without, turn(bare))
			}
			slices.Sort(with)
			slices.Sort(without)
			middle := len(with) / 2
			b.ReportMetric(with[middle], "safe-ns")
			b.ReportMetric(without[middle], "bare-ns")
			b.ReportMetric(with[middle]/without[middle], "safe/bare")
		})
	}
}

// bareHandler calls a script in the interpreter alone, with the packages that scripts have as they are.
func bareHandler(b *testing.B, src, body string) func() ([]byte, error) {
	b.Helper()
	exports := interp.Exports{}
	for _, p := range symbols.Packages() {
		exports[path.Join(p, path.Base(p))] = symbols.For(p)
	}
	i := interp.New(interp.Options{})
	if err := i.Use(exports); err != nil {
		b.Fatal(err)
	}
	if _, err := i.Eval(src); err != nil {
		b.Fatal(err)
	}
	value, err := i.Eval("main.Handle")
	if err != nil {
		b.Fatal(err)
	}
	handle := value.Interface().(func(*picloud.Context) (any, error))
	return func() ([]byte, error) {
		v, err := handle(picloud.NewContext(alone{}, "x1", 2, request(), []byte(body)))
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		a := &answer{} // as invoke does
		_, err = sink{a}.Write(data)
		return a.body.Bytes(), err
	}
}

// alone is no platform.
type alone struct{}

func (alone) Done() <-chan struct{}                       { return nil }
func (alone) Call(string, string, []byte) ([]byte, error) { return nil, context.Canceled }
func (alone) JSON(v any) ([]byte, error)                  { return json.Marshal(v) }
func (alone) Log(string, string, []any)                   {}
