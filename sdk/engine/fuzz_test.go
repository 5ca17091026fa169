package engine

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/picloud/picloud/sdk/plugin"
	enginev1 "github.com/picloud/picloud/sdk/proto/engine/v1"
	pluginv1 "github.com/picloud/picloud/sdk/proto/plugin/v1"
)

// FuzzHandle feeds the host what an engine may send: whatever it is, the host lives on, and no run holds more than its
// credit.
func FuzzHandle(f *testing.F) {
	for _, m := range []*enginev1.Message{
		{},
		{Id: 1, Body: &enginev1.Message_Output{Output: &enginev1.Output{
			Head: &enginev1.Head{Status: 200, Headers: []*enginev1.Header{{Name: []byte("A")}}}, Data: []byte("x"), End: true,
		}}},
		{Id: 1, Body: &enginev1.Message_Output{Output: &enginev1.Output{End: true, Fault: &pluginv1.Fault{Kind: "x"}}}},
		{Id: 2, Body: &enginev1.Message_Call{Call: &enginev1.Call{Call: 1, Service: "s", Method: "m", Args: []byte("a")}}},
		{Id: 2, Body: &enginev1.Message_Logs{Logs: &enginev1.Logs{Lines: []*enginev1.Log{{TimeUnixNano: 1, Level: "info"}}}}},
		{Id: 3, Body: &enginev1.Message_Credit{Credit: &enginev1.Credit{Bytes: 10}}},
		{Id: 9, Body: &enginev1.Message_Cancel{Cancel: &enginev1.Cancel{}}},
		{Id: 1, Body: &enginev1.Message_Invoke{Invoke: &enginev1.Invoke{}}},
	} {
		b, err := proto.Marshal(&enginev1.Frame{Messages: []*enginev1.Message{m, m}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var said enginev1.Frame
		if proto.Unmarshal(b, &said) != nil {
			return
		}
		c := &Client{runs: map[uint64]*run{}, next: 4}
		session := func(ctx context.Context, _ ...grpc.CallOption) (grpc.BidiStreamingClient[enginev1.Frame, enginev1.Frame], error) {
			return &still{ctx: ctx}, nil
		}
		c.link, _ = plugin.Open(t.Context(), session, frame, messageSize)
		go c.link.Receive(c.handle, nil)
		defer c.link.Close()
		for id := uint64(1); id <= 3; id++ {
			x := &run{
				id: id, req: &Request{Log: func([]Log) {}}, ctx: t.Context(), wake: make(chan struct{}, 1), credit: 100,
			}
			if id == 3 {
				x.window = &plugin.Window{}
			}
			c.runs[id] = x
		}
		for _, m := range said.GetMessages() {
			if c.handle(m) != nil {
				break
			}
		}
		for _, x := range c.runs {
			held, ends := 0, 0
			for _, m := range x.take() {
				held += len(m.GetData())
				if m.GetEnd() {
					ends++
				}
			}
			if held > 100 || ends > 1 {
				t.Errorf("%d bytes, %d ends", held, ends)
			}
			x.mu.Lock()
			if x.calls > callsAtOnce {
				t.Errorf("%d calls at one time", x.calls)
			}
			if x.stop != nil {
				x.stop()
			}
			x.mu.Unlock()
		}
	})
}

// still is a stream that takes everything and says nothing.
type still struct {
	grpc.BidiStreamingClient[enginev1.Frame, enginev1.Frame]
	ctx context.Context
}

func (s *still) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (s *still) Send(*enginev1.Frame) error   { return nil }
func (s *still) Recv() (*enginev1.Frame, error) {
	<-s.ctx.Done()
	return nil, io.EOF
}

// deaf is a stream that takes nothing and says nothing.
type deaf struct {
	grpc.BidiStreamingServer[enginev1.Frame, enginev1.Frame]
	ctx  context.Context
	said []*enginev1.Frame
}

func (d *deaf) Context() context.Context     { return d.ctx }
func (d *deaf) SendHeader(metadata.MD) error { return nil }
func (d *deaf) Send(*enginev1.Frame) error   { return errors.New("too large") }
func (d *deaf) Recv() (*enginev1.Frame, error) {
	if len(d.said) > 0 {
		f := d.said[0]
		d.said = d.said[1:]
		return f, nil
	}
	<-d.ctx.Done()
	return nil, io.EOF
}

// A session that cannot be heard ends: else its runs would hang until their deadlines.
func TestSessionEndsWithItsSender(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := newServer(nil)
	frame := &enginev1.Frame{Messages: []*enginev1.Message{{Id: 1, Body: &enginev1.Message_Invoke{
		Invoke: &enginev1.Invoke{}, // refused, which is an answer
	}}}}
	if err := s.Session(&deaf{ctx: ctx, said: []*enginev1.Frame{frame}}); err == nil {
		t.Error("it ended well")
	}
}
