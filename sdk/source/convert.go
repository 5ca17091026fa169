package source

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/plugin"
	sourcev1 "github.com/picloud/picloud/sdk/proto/source/v1"
)

// Generated types end here: each pair below turns one of them into what the rest of the code uses, and back.

func infoToWire(i Info, layers []plugin.Layer) *sourcev1.DescribeResponse {
	return &sourcev1.DescribeResponse{Name: i.Name, Version: i.Version, Secrets: i.Secrets, Layers: plugin.LayersToWire(layers)}
}

func infoFromWire(m *sourcev1.DescribeResponse) Info {
	return Info{Name: m.GetName(), Version: m.GetVersion(), Secrets: m.GetSecrets()}
}

func problemsToWire(problems []Problem) *sourcev1.CheckResponse {
	m := &sourcev1.CheckResponse{}
	for _, p := range problems {
		m.Problems = append(m.Problems, &sourcev1.Problem{Field: plugin.WireText(p.Field), Message: plugin.WireText(p.Message)})
	}
	return m
}

func problemsFromWire(m *sourcev1.CheckResponse) (problems []Problem) {
	for _, p := range m.GetProblems() {
		problems = append(problems, Problem{Field: p.GetField(), Message: p.GetMessage()})
	}
	return problems
}

func startToWire(s Setting) *sourcev1.Start {
	return &sourcev1.Start{Config: s.Config, Cursor: []byte(s.Cursor)}
}

func startFromWire(m *sourcev1.Start) Setting {
	return Setting{Config: m.GetConfig(), Cursor: string(m.GetCursor())}
}

func batchToWire(id uint64, b *Batch) *sourcev1.Batch {
	m := &sourcev1.Batch{Id: id, Cursor: []byte(b.Cursor)}
	for i := range b.Events {
		e := &b.Events[i]
		x := &sourcev1.Event{
			Id: plugin.WireText(e.ID), Type: plugin.WireText(e.Type), Subject: plugin.WireText(e.Subject),
			ContentType: plugin.WireText(e.ContentType), Data: e.Data,
		}
		if !e.Time.IsZero() {
			x.TimeUnixNano = e.Time.UnixNano()
		}
		for _, a := range e.Attributes {
			x.Attributes = append(x.Attributes, &sourcev1.Attribute{Name: plugin.WireText(a.Name), Value: plugin.WireText(a.Value)})
		}
		m.Events = append(m.Events, x)
	}
	return m
}

func batchFromWire(m *sourcev1.Batch) Batch {
	b := Batch{Cursor: string(m.GetCursor())}
	for _, x := range m.GetEvents() {
		e := Event{ID: x.GetId(), Type: x.GetType(), Subject: x.GetSubject(), ContentType: x.GetContentType(), Data: x.GetData()}
		if x.GetTimeUnixNano() != 0 {
			e.Time = time.Unix(0, x.GetTimeUnixNano()).UTC()
		}
		for _, a := range x.GetAttributes() {
			e.Attributes = append(e.Attributes, event.Header{Name: a.GetName(), Value: a.GetValue()})
		}
		b.Events = append(b.Events, e)
	}
	return b
}

// messageSize is what a message takes in a frame. What an estimate left out, such as a hundred attributes, could make a frame too large for
// gRPC, which ends the session and every instance in it.
func messageSize(m *sourcev1.Message) int { return proto.Size(m) }
