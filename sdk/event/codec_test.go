package event_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
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

// sample is what a browser might cause.
func sample() *event.Envelope {
	return &event.Envelope{
		ID: "0198c0de-0000-7000-8000-000000000001", Source: "http", Type: "http.request",
		Time: time.Date(2026, 11, 23, 10, 0, 0, 123456789, time.UTC), ContentType: "application/json",
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		HTTP: &event.HTTP{
			Method: "POST", Host: "localhost:8080", Path: "/hello/\xffada\x00", Query: "q=1", RemoteAddr: "127.0.0.1:50000",
			Headers: []event.Header{
				{Name: "Accept", Value: "*/*"},
				{Name: "Accept-Encoding", Value: "gzip"},
				{Name: "Content-Length", Value: "1024"},
				{Name: "Content-Type", Value: "application/json"},
				{Name: "Cookie", Value: ""},
				{Name: "User-Agent", Value: "curl/8.5.0"},
			},
			Params: []event.Param{{Name: "name", Value: "ada"}}, Rest: "x/y",
		},
	}
}

func marshal(tb testing.TB, e *event.Envelope) []byte {
	tb.Helper()
	b, err := e.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// roundTrip encodes and decodes an envelope. The generated code must see the same in the bytes, and nothing more.
func roundTrip(t *testing.T, e *event.Envelope) *event.Envelope {
	t.Helper()
	b := marshal(t, e)
	got, err := event.Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if want := generated(t, b); !reflect.DeepEqual(got, want) {
		t.Errorf("\n%+v %+v\n%+v %+v", got, got.HTTP, want, want.HTTP)
	}
	return got
}

// generated decodes with the generated code: the .proto file is the contract, which ours must agree with.
func generated(t *testing.T, b []byte) *event.Envelope {
	t.Helper()
	var m eventv1.Envelope
	if err := proto.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	e := &event.Envelope{
		ID: string(m.GetId()), Source: string(m.GetSource()), Type: string(m.GetType()), Subject: string(m.GetSubject()),
		ContentType: string(m.GetContentType()), TraceParent: string(m.GetTraceParent()),
	}
	if n := m.GetTimeUnixNano(); n != 0 {
		e.Time = time.Unix(0, n).UTC()
	}
	if h := m.GetHttp(); h != nil {
		e.HTTP = &event.HTTP{
			Method: string(h.GetMethod()), Host: string(h.GetHost()), Path: string(h.GetPath()), Query: string(h.GetQuery()),
			RemoteAddr: string(h.GetRemoteAddr()), Rest: string(h.GetRest()),
		}
		for _, x := range h.GetHeaders() {
			e.HTTP.Headers = append(e.HTTP.Headers, event.Header{Name: string(x.GetName()), Value: string(x.GetValue())})
		}
		for _, x := range h.GetParams() {
			e.HTTP.Params = append(e.HTTP.Params, event.Param{Name: string(x.GetName()), Value: string(x.GetValue())})
		}
	}
	return e
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
	// The other way round: every field of the message is set, and it has no others.
	var m eventv1.Envelope
	if err := proto.Unmarshal(marshal(t, &e), &m); err != nil {
		t.Fatal(err)
	}
	for _, part := range []proto.Message{&m, m.GetHttp(), m.GetHttp().GetHeaders()[0], m.GetHttp().GetParams()[0]} {
		r := part.ProtoReflect()
		for i := range r.Descriptor().Fields().Len() {
			if f := r.Descriptor().Fields().Get(i); !r.Has(f) {
				t.Errorf("%s is not set", f.FullName())
			}
		}
		if len(r.GetUnknown()) > 0 {
			t.Errorf("%s has fields that the .proto file does not know", r.Descriptor().FullName())
		}
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	t.Parallel()
	newer, err := proto.Marshal(&eventv1.Envelope{Version: 2, Id: []byte("e")})
	if err != nil {
		t.Fatal(err)
	}
	good := marshal(t, sample())
	for name, b := range map[string][]byte{
		"nothing": nil, "garbage": {0xff, 0xff}, "newer": newer, "cut": good[:len(good)-1],
	} {
		if e, err := event.Unmarshal(b); err == nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// A later writer may know more fields: they are skipped.
func TestUnknownFieldsAreSkipped(t *testing.T) {
	t.Parallel()
	b := marshal(t, sample())
	b = protowire.AppendVarint(protowire.AppendTag(b, 99, protowire.VarintType), 7)
	b = protowire.AppendFixed64(protowire.AppendTag(b, 98, protowire.Fixed64Type), 7)
	b = protowire.AppendString(protowire.AppendTag(b, 97, protowire.BytesType), "later")
	if e, err := event.Unmarshal(b); err != nil || !reflect.DeepEqual(e, sample()) {
		t.Errorf("%v %+v", err, e)
	}
}

func TestMarshalAllocatesOnce(t *testing.T) {
	e := sample()
	if n := testing.AllocsPerRun(100, func() { marshal(t, e) }); n > 1 {
		t.Errorf("%v allocations", n)
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
		if want := generated(t, b); !reflect.DeepEqual(e, want) {
			t.Errorf("\n%+v %+v\n%+v %+v", e, e.HTTP, want, want.HTTP)
		}
		if got := roundTrip(t, e); !reflect.DeepEqual(got, e) {
			t.Errorf("\n%+v\n%+v", got, e)
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	e := sample()
	wire := marshal(b, e)
	b.Run("marshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			marshal(b, e)
		}
	})
	b.Run("unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := event.Unmarshal(wire); err != nil {
				b.Fatal(err)
			}
		}
	})
}
