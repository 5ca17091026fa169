package event_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/picloud/picloud/sdk/event"
	eventv1 "github.com/picloud/picloud/sdk/proto/event/v1"
)

// fill sets every field below v, each to a value of its own, so that a round trip shows a field that nobody encodes.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(int64(*n), int64(*n)).UTC()))
	case v.Kind() == reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	default:
		t.Fatalf("a field of kind %s", v.Kind())
	}
}

func roundTrip(t *testing.T, e *event.Envelope) *event.Envelope {
	t.Helper()
	b, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := event.Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestEveryFieldIsEncoded(t *testing.T) {
	t.Parallel()
	var e event.Envelope
	n := 0
	fill(t, reflect.ValueOf(&e).Elem(), &n)
	for _, want := range []*event.Envelope{&e, {}, {HTTP: &event.HTTP{}}} {
		if got := roundTrip(t, want); !reflect.DeepEqual(got, want) {
			t.Errorf("\n%+v %+v\n%+v %+v", got, got.HTTP, want, want.HTTP)
		}
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	t.Parallel()
	newer, err := proto.Marshal(&eventv1.Envelope{Version: 2, Id: "e"})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"nothing": nil, "garbage": {0xff, 0xff}, "newer": newer} {
		if e, err := event.Unmarshal(b); err == nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if _, err := (&event.Envelope{ID: "\xff"}).Marshal(); err == nil {
		t.Error("an id that is no text")
	}
}

// FuzzEnvelope checks that what a caller sent survives byte for byte.
func FuzzEnvelope(f *testing.F) {
	f.Add("subject", "GET", "example.org", "/a/b", "q=1", "127.0.0.1:1", "A", "1", "id", "7", "r/s", int64(1))
	f.Add("\xff", "\x00", "", "/\xc3\x28", "%zz", "", "", "\r\n", "\xfe", "", "", int64(-1))
	f.Fuzz(func(t *testing.T, subject, method, host, path, query, addr, name, value, param, arg, rest string, nanos int64) {
		want := &event.Envelope{
			ID: "e", Source: "http", Type: "http.request", Subject: subject, ContentType: value, TraceParent: rest,
			HTTP: &event.HTTP{
				Method: method, Host: host, Path: path, Query: query, RemoteAddr: addr, Rest: rest,
				Headers: []event.Header{{Name: name, Value: value}, {Name: value, Value: name}},
				Params:  []event.Param{{Name: param, Value: arg}},
			},
		}
		if nanos != 0 {
			want.Time = time.Unix(0, nanos).UTC()
		}
		if got := roundTrip(t, want); !reflect.DeepEqual(got, want) {
			t.Errorf("\n%+v %+v\n%+v %+v", got, got.HTTP, want, want.HTTP)
		}
	})
}

// FuzzUnmarshal checks that whatever is decoded is encoded alike again, and that nothing makes it panic.
func FuzzUnmarshal(f *testing.F) {
	b, err := (&event.Envelope{ID: "e", Time: time.Unix(1, 2), HTTP: &event.HTTP{Headers: []event.Header{{Name: "A", Value: "b"}}}}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Add(b[:len(b)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := event.Unmarshal(b)
		if err != nil {
			return
		}
		if got := roundTrip(t, e); !reflect.DeepEqual(got, e) {
			t.Errorf("\n%+v\n%+v", got, e)
		}
	})
}
