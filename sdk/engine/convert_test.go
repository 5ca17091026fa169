package engine

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin"
	enginev1 "github.com/picloud/picloud/sdk/proto/engine/v1"
	pluginv1 "github.com/picloud/picloud/sdk/proto/plugin/v1"
)

// fill sets every field of what v points to, each to a value of its own, so that a round trip shows a field that nobody
// converts.
func fill(t *testing.T, v any) {
	t.Helper()
	n := 0
	var set func(reflect.Value)
	set = func(v reflect.Value) {
		n++
		switch x := v.Addr().Interface().(type) {
		case *time.Time:
			*x = time.Unix(int64(n), int64(n)).UTC()
			return
		case *time.Duration:
			*x = time.Duration(n) * time.Millisecond
			return
		case *[]byte:
			*x = fmt.Append(nil, "bytes ", n)
			return
		}
		switch v.Kind() {
		case reflect.String:
			v.SetString(fmt.Sprint("text ", n))
		case reflect.Int, reflect.Int64:
			v.SetInt(int64(n))
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Struct:
			for i := range v.NumField() {
				set(v.Field(i))
			}
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 2, 2))
			for i := range v.Len() {
				set(v.Index(i))
			}
		default:
			t.Fatalf("a field of kind %s", v.Kind())
		}
	}
	set(reflect.ValueOf(v).Elem())
}

// overWire encodes and decodes a message.
func overWire[M proto.Message](t *testing.T, m, empty M) M {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(b, empty); err != nil {
		t.Fatal(err)
	}
	return empty
}

func same[T any](t *testing.T, there func(T) T) {
	t.Helper()
	var want T
	fill(t, &want)
	if got := there(want); !reflect.DeepEqual(got, want) {
		t.Errorf("%T:\n%+v\n%+v", want, got, want)
	}
}

func TestEveryFieldIsConverted(t *testing.T) {
	t.Parallel()
	same(t, func(v Info) Info {
		m := overWire(t, infoToWire(v, 9, nil), &enginev1.DescribeResponse{})
		if m.GetWindow() != 9 {
			t.Errorf("%v", m)
		}
		return infoFromWire(m)
	})
	same(t, func(v plugin.Layer) plugin.Layer {
		return plugin.LayersFromWire(overWire(t, infoToWire(Info{}, 1, []plugin.Layer{v}), &enginev1.DescribeResponse{}).GetLayers())[0]
	})
	same(t, func(v Bundle) Bundle { return bundleFromWire(overWire(t, bundleToWire(v), &enginev1.LoadRequest{})) })
	same(t, func(v Loaded) Loaded {
		l, err := loadedFromWire(overWire(t, loadedToWire(v, nil), &enginev1.LoadResponse{}))
		if err != nil {
			t.Error(err)
		}
		return l
	})
	same(t, func(v fault.Fault) fault.Fault {
		_, err := loadedFromWire(overWire(t, loadedToWire(Loaded{}, fmt.Errorf("wrapped: %w", &v)), &enginev1.LoadResponse{}))
		return *fault.From(err)
	})
	same(t, func(v Head) Head { return headFromWire(overWire(t, headToWire(&v), &enginev1.Head{})) })
	same(t, func(v Log) Log { return logsFromWire(overWire(t, logsToWire([]Log{v}), &enginev1.Logs{}))[0] })
}

func TestNothingIsConvertedToNothing(t *testing.T) {
	t.Parallel()
	if plugin.FaultToWire(nil) != nil || plugin.FaultFromWire(nil) != nil || headToWire(nil) != nil {
		t.Error("something of nothing")
	}
	if f := plugin.FaultFromWire(plugin.FaultToWire(fmt.Errorf("plain"))); f.Kind != fault.Internal || f.Message != "plain" {
		t.Errorf("%+v", f)
	}
}

func TestTextsAreCut(t *testing.T) {
	t.Parallel()
	for shift := range 4 {
		f := fault.New(fault.ScriptError, fault.Script, "%s", strings.Repeat("x", shift)+strings.Repeat("✓", plugin.FaultTextLimit))
		m := plugin.FaultFromWire(plugin.FaultToWire(f)).Message
		if len(m) > plugin.FaultTextLimit || len(m) < plugin.FaultTextLimit-32 || !utf8.ValidString(m) || !strings.HasSuffix(m, "✓ … (cut)") {
			t.Errorf("%d bytes, %q", len(m), m[len(m)-16:])
		}
	}
}

func FuzzFault(f *testing.F) {
	f.Add("script_error", "script", "message", "detail", int64(5), true)
	f.Add("\xff", "", "\x00\xff", "", int64(-1), false)
	f.Fuzz(func(t *testing.T, kind, origin, message, detail string, ms int64, fatal bool) {
		if len(message)+len(detail) > plugin.FaultTextLimit || ms > 1<<40 || ms < -1<<40 {
			return
		}
		want := fault.Fault{
			Kind: fault.Kind(plugin.WireText(kind)), Origin: fault.Origin(plugin.WireText(origin)), Message: message, Detail: detail,
			RetryAfter: time.Duration(ms) * time.Millisecond, Fatal: fatal,
		}
		in := want
		in.Kind, in.Origin = fault.Kind(kind), fault.Origin(origin)
		if got := plugin.FaultFromWire(overWire(t, plugin.FaultToWire(&in), &pluginv1.Fault{})); *got != want {
			t.Errorf("%+v, not %+v", *got, want)
		}
	})
}
