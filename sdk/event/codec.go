package event

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/picloud/picloud/sdk/proto/event/v1"
)

// version of the envelope's meaning. A reader refuses what is newer than itself.
const version = 1

// Marshal encodes the envelope as picloud.event.v1.Envelope. Text with any bytes survives.
func (e *Envelope) Marshal() ([]byte, error) {
	m := &eventv1.Envelope{
		Version: version, Id: e.ID, Source: e.Source, Type: e.Type, Subject: []byte(e.Subject),
		ContentType: []byte(e.ContentType), TraceParent: []byte(e.TraceParent),
	}
	if !e.Time.IsZero() {
		m.TimeUnixNano = e.Time.UnixNano()
	}
	if h := e.HTTP; h != nil {
		m.Http = &eventv1.HTTP{
			Method: []byte(h.Method), Host: []byte(h.Host), Path: []byte(h.Path), Query: []byte(h.Query),
			RemoteAddr: []byte(h.RemoteAddr), Rest: []byte(h.Rest),
		}
		pairs := make([]eventv1.Pair, len(h.Headers)+len(h.Params)) // one allocation for all
		list := make([]*eventv1.Pair, len(pairs))
		for i := range pairs {
			list[i] = &pairs[i]
		}
		for i, x := range h.Headers {
			pairs[i].Name, pairs[i].Value = []byte(x.Name), []byte(x.Value)
		}
		n := len(h.Headers)
		for i, x := range h.Params {
			pairs[n+i].Name, pairs[n+i].Value = []byte(x.Name), []byte(x.Value)
		}
		m.Http.Headers, m.Http.Params = list[:n:n], list[n:]
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode envelope: %w", err)
	}
	return b, nil
}

// Unmarshal decodes what Marshal made. It fails on anything else, and on envelopes of a newer version.
func Unmarshal(b []byte) (*Envelope, error) {
	var m eventv1.Envelope
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("decode envelope: %w", err)
	}
	if m.GetVersion() != version {
		return nil, fmt.Errorf("decode envelope: version %d is not known", m.GetVersion())
	}
	e := &Envelope{
		ID: m.GetId(), Source: m.GetSource(), Type: m.GetType(), Subject: string(m.GetSubject()),
		ContentType: string(m.GetContentType()), TraceParent: string(m.GetTraceParent()),
	}
	if n := m.GetTimeUnixNano(); n != 0 {
		e.Time = time.Unix(0, n).UTC()
	}
	if h := m.GetHttp(); h != nil {
		e.HTTP = &HTTP{
			Method: string(h.GetMethod()), Host: string(h.GetHost()), Path: string(h.GetPath()), Query: string(h.GetQuery()),
			RemoteAddr: string(h.GetRemoteAddr()), Rest: string(h.GetRest()),
		}
		if n := len(h.GetHeaders()); n > 0 {
			e.HTTP.Headers = make([]Header, n)
		}
		for i, x := range h.GetHeaders() {
			e.HTTP.Headers[i] = Header{string(x.GetName()), string(x.GetValue())}
		}
		if n := len(h.GetParams()); n > 0 {
			e.HTTP.Params = make([]Param, n)
		}
		for i, x := range h.GetParams() {
			e.HTTP.Params[i] = Param{string(x.GetName()), string(x.GetValue())}
		}
	}
	return e, nil
}
