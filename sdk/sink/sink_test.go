package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin"
	sinkv1 "github.com/picloud/picloud/sdk/proto/sink/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect serves on a unix socket and returns a connection to it.
func connect(t *testing.T, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	dir, err := os.MkdirTemp("", "pic") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(plugin.ServerOptions()...)
	register(s)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+filepath.Join(dir, "s"),
		append(plugin.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		if err := errors.Join(<-served, os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func dial(t *testing.T, register func(*grpc.Server)) *Client {
	t.Helper()
	c, err := Dial(context.Background(), connect(t, register))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// overWire is what arrives of a message.
func overWire[M proto.Message](t *testing.T, in, out M) M {
	t.Helper()
	b, err := proto.Marshal(in)
	if err == nil {
		err = proto.Unmarshal(b, out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// full checks that a value has no empty field, so that one that is not converted is seen.
func full(t *testing.T, v any) {
	t.Helper()
	x := reflect.ValueOf(v)
	for i := range x.NumField() {
		if x.Field(i).IsZero() {
			t.Errorf("%T.%s is not filled in", v, x.Type().Field(i).Name)
		}
	}
}

func TestEveryFieldIsConverted(t *testing.T) {
	t.Parallel()
	at := time.Unix(1, 2).UTC()
	info := Info{Name: "n", Version: "v", Secrets: []string{"a", "b"}}
	full(t, info)
	m := overWire(t, infoToWire(info, 7, []plugin.Layer{{Name: "l", Missing: "m"}}), &sinkv1.DescribeResponse{})
	if got := infoFromWire(m); !reflect.DeepEqual(got, info) || m.GetWindow() != 7 || m.GetLayers()[0].GetMissing() != "m" {
		t.Errorf("%+v %v", got, m)
	}
	config := Config{JSON: []byte("{}"), Reach: Reach{Any: true, Allow: "a:1", Own: []string{"b:2"}}}
	full(t, config)
	full(t, config.Reach)
	if got := configFromWire(overWire(t, configToWire(3, config), &sinkv1.ConfigureRequest{})); !reflect.DeepEqual(got, config) {
		t.Errorf("%+v", got)
	}
	delivery := Delivery{
		EventID: "e", Attempt: 2, Type: "t", Time: at, ContentType: "c", Headers: []event.Header{{Name: "n", Value: "v"}}, Data: []byte("d"),
	}
	full(t, delivery)
	if got := deliveryFromWire(overWire(t, deliveryToWire(3, &delivery, time.Second), &sinkv1.Item{})); !reflect.DeepEqual(got, delivery) {
		t.Errorf("%+v", got)
	}
	a := answerFromWire(overWire(t, answerToWire(answer{
		status: 9, fault: fault.New(fault.Limit, fault.Script, "m"), logs: []Log{{Time: at, Level: "info", Message: "\xff"}},
	}), &sinkv1.Answer{}))
	full(t, a)
	if a.Status != 9 || a.Fault.Kind != fault.Limit || a.Logs[0] != (Log{Time: at, Level: "info", Message: "\xff"}) {
		t.Errorf("%+v", a)
	}
	if got := deliveryToWire(1, &Delivery{Type: "\xff", ContentType: "\xff", EventID: "\xff"}, 0); !proto.Equal(overWire(t, got, &sinkv1.Item{}), got) {
		t.Error("text that is not UTF-8 cannot be sent")
	}
}

// odd is a sink that breaks the contract.
type odd struct {
	sinkv1.UnimplementedSinkServer
	say func(id uint64) []*sinkv1.Message
}

func (odd) Describe(context.Context, *sinkv1.DescribeRequest) (*sinkv1.DescribeResponse, error) {
	return &sinkv1.DescribeResponse{Name: "odd", Window: 1 << 40}, nil
}

func (o odd) Session(stream grpc.BidiStreamingServer[sinkv1.Frame, sinkv1.Frame]) error {
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	for {
		frame, err := stream.Recv()
		if err != nil {
			return nil
		}
		for _, m := range frame.GetMessages() {
			if err := stream.Send(&sinkv1.Frame{Messages: o.say(m.GetId())}); err != nil {
				return nil
			}
		}
	}
}

// A sink that breaks the contract ends its session, and no delivery is taken for done.
func TestTheContractIsKept(t *testing.T) {
	t.Parallel()
	done := func(id uint64) *sinkv1.Message {
		return &sinkv1.Message{Id: id, Body: &sinkv1.Message_Answer{Answer: &sinkv1.Answer{}}}
	}
	many := &sinkv1.Answer{}
	for range maxLogs + 1 {
		many.Logs = append(many.Logs, &sinkv1.Log{})
	}
	for what, say := range map[string]func(id uint64) []*sinkv1.Message{
		"nothing in it":        func(id uint64) []*sinkv1.Message { return []*sinkv1.Message{{Id: id}} },
		"an answer to nothing": func(id uint64) []*sinkv1.Message { return []*sinkv1.Message{done(id + 1)} },
		"an answer to zero":    func(uint64) []*sinkv1.Message { return []*sinkv1.Message{done(0)} },
		"what the host sends":  func(id uint64) []*sinkv1.Message { return []*sinkv1.Message{{Id: id, Body: &sinkv1.Message_Cancel{}}} },
		"more lines than it may": func(id uint64) []*sinkv1.Message {
			return []*sinkv1.Message{{Id: id, Body: &sinkv1.Message_Answer{Answer: many}}}
		},
	} {
		c := dial(t, func(s *grpc.Server) { sinkv1.RegisterSinkServer(s, odd{say: say}) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if a := c.Deliver(ctx, 1, &Delivery{}); a.Fault == nil || a.Fault.Kind != fault.Internal || a.Fault.Origin != fault.Plugin {
			t.Errorf("%s: %+v", what, a.Fault)
		}
		cancel()
		<-c.Lost()
		if !errors.Is(c.Err(), plugin.ErrProtocol) {
			t.Errorf("%s: %v", what, c.Err())
		}
		if a := c.Deliver(t.Context(), 1, &Delivery{}); a.Fault == nil || a.Fault.Kind != fault.Unavailable {
			t.Errorf("%s, afterwards: %+v", what, a.Fault)
		}
	}
	twice := dial(t, func(s *grpc.Server) {
		sinkv1.RegisterSinkServer(s, odd{say: func(id uint64) []*sinkv1.Message { return []*sinkv1.Message{done(id), done(id)} }})
	})
	for range 10 { // a second answer is ignored
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if a := twice.Deliver(ctx, 1, &Delivery{}); a.Fault != nil {
			t.Errorf("%+v", a.Fault)
		}
		cancel()
	}
}

// tray is a sink that holds its first batch back until it may go, and remembers all.
type tray struct {
	batch, parallel int
	held            chan struct{}

	mu      sync.Mutex
	batches [][]string
	closed  int
}

func (*tray) Info() Info                       { return Info{Name: "tray", Version: "1"} }
func (b *tray) Open(Setting) (Instance, error) { return b, nil }
func (b *tray) Bounds() (batch, parallel int)  { return b.batch, b.parallel }
func (b *tray) Close()                         { b.mu.Lock(); b.closed++; b.mu.Unlock() }
func (b *tray) Deliver(items []*Item) {
	var ids []string
	for _, i := range items {
		ids = append(ids, i.EventID)
	}
	b.mu.Lock()
	b.batches = append(b.batches, ids)
	b.mu.Unlock()
	<-b.held
	for _, i := range items {
		i.Answer(0, nil)
		i.Answer(0, errors.New("a second answer does not count"))
		i.Log("info", "nor what comes after it")
	}
}

// A batch is what is queued, at most as many as an instance takes, and nothing waits for more.
func TestBatches(t *testing.T) {
	t.Parallel()
	for _, most := range []int{0, 1, 2, MaxBatch, 1000} {
		b := &tray{batch: most, parallel: min(most, 1), held: make(chan struct{})}
		c := dial(t, func(s *grpc.Server) { Register(s, b) })
		instance, err := c.Configure(t.Context(), Config{JSON: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var all sync.WaitGroup
		const n = 100
		for i := range n {
			all.Go(func() {
				if a := c.Deliver(ctx, instance, &Delivery{EventID: fmt.Sprint(i)}); a.Fault != nil || len(a.Logs) > 0 {
					t.Errorf("%+v", a)
				}
			})
		}
		close(b.held)
		all.Wait()
		cancel()
		if err := c.Forget(t.Context(), instance); err != nil {
			t.Error(err)
		}
		b.mu.Lock()
		seen := map[string]bool{}
		for _, ids := range b.batches {
			if len(ids) == 0 || len(ids) > max(1, min(most, MaxBatch)) {
				t.Errorf("a batch of %d, of at most %d", len(ids), most)
			}
			for _, id := range ids {
				seen[id] = true
			}
		}
		if len(seen) != n {
			t.Errorf("%d of %d", len(seen), n)
		}
		b.mu.Unlock()
		if err := c.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// An item that is too large is refused here, and one at the limit arrives.
func TestDataIsBounded(t *testing.T) {
	t.Parallel()
	b := &tray{batch: 1, parallel: 1, held: make(chan struct{})}
	close(b.held)
	c := dial(t, func(s *grpc.Server) { Register(s, b) })
	instance, err := c.Configure(t.Context(), Config{JSON: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if a := c.Deliver(ctx, instance, &Delivery{Data: make([]byte, MaxData)}); a.Fault != nil {
		t.Errorf("%+v", a.Fault)
	}
	if a := c.Deliver(ctx, instance, &Delivery{Data: make([]byte, MaxData+1)}); a.Fault == nil || a.Fault.Kind != fault.Invalid {
		t.Errorf("%+v", a.Fault)
	}
}

// fragile is a sink whose instances cannot be closed.
type fragile struct{ *tray }

func (f fragile) Open(Setting) (Instance, error) { return f, nil }
func (fragile) Close()                           { panic("in Close") }

// An instance whose end goes wrong ends nothing else.
func TestCloseThatPanics(t *testing.T) {
	t.Parallel()
	b := &tray{batch: 1, parallel: 1, held: make(chan struct{})}
	c := dial(t, func(s *grpc.Server) { Register(s, fragile{b}) })
	config := Config{JSON: []byte("{}")}
	if f := fault.From(c.Check(t.Context(), config)); f == nil || f.Origin != fault.Plugin || !strings.Contains(f.Message, "in Close") {
		t.Errorf("a configuration of which nobody knows whether it is right: %+v", f)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var instances []uint64
	for range 2 {
		n, err := c.Configure(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		instances = append(instances, n)
	}
	if err := c.Forget(t.Context(), instances[0]); err != nil { // with nothing to do
		t.Error(err)
	}
	answered := make(chan Answer, 1)
	go func() { answered <- c.Deliver(ctx, instances[1], &Delivery{EventID: "e"}) }()
	b.held <- struct{}{} // it is under way
	if err := c.Forget(t.Context(), instances[1]); err != nil {
		t.Error(err)
	}
	if a := <-answered; a.Fault != nil {
		t.Errorf("%+v", a.Fault)
	}
	if err := c.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}
