package sink

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/guard"
	"github.com/picloud/picloud/sdk/plugin"
	sinkv1 "github.com/picloud/picloud/sdk/proto/sink/v1"
)

// PluginName is the name under which a process serves its sink.
const PluginName = "sink"

// Versions are the protocol versions that the host can speak, for go-plugin to negotiate. What it dispenses under
// PluginName is a *Client.
func Versions() map[int]goplugin.PluginSet { return versions(nil) }

func versions(s *server) map[int]goplugin.PluginSet {
	return map[int]goplugin.PluginSet{1: {PluginName: &adapter{server: s}}}
}

// Serve runs a sink as a plugin process, which ends with its session. On Linux the process confines itself as far as the machine
// permits, unless plugin.LayersEnv says otherwise: it has sockets of the Internet, and can read how names are looked up there and
// which certificates are trusted, but no other file.
func Serve(s Sink) {
	process := plugin.Start(plugin.Network)
	x := newServer(s)
	x.layers, x.begun, x.ended = process.Layers(), process.Opened, process.Closed
	process.Serve(versions(x))
}

// adapter fits a sink into go-plugin. On the host's side it has no server and dials.
type adapter struct {
	goplugin.NetRPCUnsupportedPlugin
	server *server
}

func (a *adapter) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	sinkv1.RegisterSinkServer(s, a.server)
	return nil
}

func (a *adapter) GRPCClient(ctx context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return Dial(ctx, conn)
}

// Register adds a sink to a gRPC server, for a host in the same process.
func Register(s grpc.ServiceRegistrar, x Sink) { sinkv1.RegisterSinkServer(s, newServer(x)) }

// window is how many items a process takes at one time; more wait at the host.
const window = 256

type server struct {
	sinkv1.UnimplementedSinkServer
	sink   Sink
	layers []plugin.Layer

	begun, ended func() // called at the beginning and the end of a session

	mu        sync.Mutex
	instances map[uint64]*instance
	draining  bool
	running   sync.WaitGroup // items
}

func newServer(s Sink) *server {
	nothing := func() {}
	return &server{sink: s, begun: nothing, ended: nothing, instances: map[uint64]*instance{}}
}

// instance is an Instance with what waits for it.
type instance struct {
	Instance
	batch, parallel int

	mu      sync.Mutex
	queue   []*Item
	calls   int // of Deliver
	leaving bool
}

func (s *server) Describe(context.Context, *sinkv1.DescribeRequest) (*sinkv1.DescribeResponse, error) {
	return infoToWire(s.sink.Info(), window, s.layers), nil
}

func (s *server) Check(_ context.Context, m *sinkv1.ConfigureRequest) (*sinkv1.ConfigureResponse, error) {
	x, err := s.open(m)
	if err == nil {
		err = x.close()
	}
	return &sinkv1.ConfigureResponse{Fault: plugin.FaultToWire(err)}, nil
}

func (s *server) Configure(_ context.Context, m *sinkv1.ConfigureRequest) (*sinkv1.ConfigureResponse, error) {
	x, err := s.open(m)
	if err == nil {
		s.mu.Lock()
		s.instances[m.GetInstance()] = x
		s.mu.Unlock()
	}
	return &sinkv1.ConfigureResponse{Fault: plugin.FaultToWire(err)}, nil
}

// open has the sink make an instance. Where it panics, that is its own fault and ends nobody else's deliveries.
func (s *server) open(m *sinkv1.ConfigureRequest) (x *instance, err error) {
	c := configFromWire(m)
	allow, err := guard.ParseAllowed(c.Reach.Allow)
	if err != nil {
		return nil, fault.New(fault.Internal, fault.Platform, "%v", err)
	}
	setting := Setting{Config: c.JSON}
	if !c.Reach.Any {
		setting.Guard = func(ports ...uint16) *guard.Guard {
			return guard.New(guard.Config{Allow: allow, Own: c.Reach.Own, Ports: ports})
		}
	}
	defer func() {
		if p := recover(); p != nil {
			x, err = nil, panicked(p)
		}
	}()
	opened, err := s.sink.Open(setting)
	if err != nil {
		return nil, err
	}
	batch, parallel := opened.Bounds()
	return &instance{Instance: opened, batch: max(1, min(batch, MaxBatch)), parallel: max(1, parallel)}, nil
}

func panicked(p any) *fault.Fault {
	f := fault.New(fault.Internal, fault.Plugin, "the sink panicked: %v", p)
	f.Detail = string(debug.Stack())
	return f
}

func (s *server) Forget(_ context.Context, m *sinkv1.ForgetRequest) (*sinkv1.ForgetResponse, error) {
	s.mu.Lock()
	x := s.instances[m.GetInstance()]
	delete(s.instances, m.GetInstance())
	s.mu.Unlock()
	if x != nil {
		x.mu.Lock()
		x.leaving = true
		idle := x.calls == 0
		x.mu.Unlock()
		if idle {
			x.end()
		}
	}
	return &sinkv1.ForgetResponse{}, nil
}

func (s *server) Health(context.Context, *sinkv1.HealthRequest) (*sinkv1.HealthResponse, error) {
	return &sinkv1.HealthResponse{}, nil
}

func (s *server) Drain(ctx context.Context, _ *sinkv1.DrainRequest) (*sinkv1.DrainResponse, error) {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		s.running.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return &sinkv1.DrainResponse{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Session serves one host. Its end cancels every item.
func (s *server) Session(stream grpc.BidiStreamingServer[sinkv1.Frame, sinkv1.Frame]) error {
	s.begun()
	defer s.ended()
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	h := &session{server: s, ctx: ctx, items: map[uint64]context.CancelFunc{}}
	h.sender = plugin.NewSender(func(batch []*sinkv1.Message) error { return stream.Send(frame(batch)) }, messageSize)
	defer h.sender.Close()
	return plugin.Attend(stream, h.sender, h.handle, h.start)
}

func frame(batch []*sinkv1.Message) *sinkv1.Frame { return &sinkv1.Frame{Messages: batch} }

func messageSize(m *sinkv1.Message) int {
	switch b := m.GetBody().(type) {
	case *sinkv1.Message_Item:
		return len(b.Item.GetData()) + 256
	case *sinkv1.Message_Answer:
		n := 64 + len(b.Answer.GetFault().GetDetail()) + len(b.Answer.GetFault().GetMessage())
		for _, l := range b.Answer.GetLogs() {
			n += len(l.GetMessage()) + 32
		}
		return n
	}
	return 32
}

// session is the sink's side of a Session.
type session struct {
	server *server
	ctx    context.Context
	sender *plugin.Sender[*sinkv1.Message]
	ready  []*instance // that have got items since start was called

	mu    sync.Mutex
	items map[uint64]context.CancelFunc
}

func (h *session) handle(m *sinkv1.Message) {
	switch b := m.GetBody().(type) {
	case *sinkv1.Message_Item:
		h.take(m.GetId(), b.Item)
	case *sinkv1.Message_Cancel:
		h.mu.Lock()
		cancel := h.items[m.GetId()]
		h.mu.Unlock()
		if cancel != nil {
			cancel()
		}
	}
}

// take queues an item for its instance. Those of one frame are started together, so that they can be one batch.
func (h *session) take(id uint64, m *sinkv1.Item) {
	d := deliveryFromWire(m)
	item := &Item{
		EventID: d.EventID, Attempt: d.Attempt, Type: d.Type, Time: d.Time, ContentType: d.ContentType, Headers: d.Headers, Data: d.Data,
	}
	var cancel context.CancelFunc
	item.ctx, cancel = context.WithTimeout(h.ctx, time.Duration(m.GetTimeoutMs())*time.Millisecond)
	s := h.server
	s.mu.Lock()
	x, draining := s.instances[m.GetInstance()], s.draining
	if !draining {
		s.running.Add(1)
	}
	s.mu.Unlock()
	item.send = func(a answer) {
		cancel()
		h.mu.Lock()
		delete(h.items, id)
		h.mu.Unlock()
		_ = h.sender.Send(&sinkv1.Message{Id: id, Body: &sinkv1.Message_Answer{Answer: answerToWire(a)}}) // lost: the session is over
		if !draining {
			s.running.Done()
		}
	}
	h.mu.Lock()
	h.items[id] = cancel
	h.mu.Unlock()
	switch {
	case draining:
		item.refuse("the sink takes no more items")
		return
	case x == nil:
		item.refuse("the instance is not configured")
		return
	}
	x.mu.Lock()
	x.queue = append(x.queue, item)
	x.mu.Unlock()
	h.ready = append(h.ready, x)
}

// start has instances deliver what has come for them.
func (h *session) start() {
	for _, x := range h.ready {
		x.mu.Lock()
		for want := (len(x.queue) + x.batch - 1) / x.batch; want > 0 && x.calls < x.parallel; want-- {
			x.calls++
			go x.work()
		}
		x.mu.Unlock()
	}
	h.ready = h.ready[:0]
}

// close has the sink close the instance. Where it panics, that is its own fault and ends nobody else's deliveries.
func (x *instance) close() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
		}
	}()
	x.Close()
	return nil
}

// end closes the instance when nobody waits to hear how that went.
func (x *instance) end() {
	if f := fault.From(x.close()); f != nil {
		fmt.Fprintf(os.Stderr, "%s\n%s\n", f.Message, f.Detail)
	}
}

// work delivers what is queued until nothing is.
func (x *instance) work() {
	for {
		x.mu.Lock()
		n := min(x.batch, len(x.queue))
		if n == 0 {
			x.calls--
			last := x.leaving && x.calls == 0
			x.mu.Unlock()
			if last {
				x.end()
			}
			return
		}
		items := x.queue[:n:n]
		if x.queue = x.queue[n:]; len(x.queue) == 0 {
			x.queue = nil
		}
		x.mu.Unlock()
		x.deliver(items)
	}
}

// deliver has all items answered.
func (x *instance) deliver(items []*Item) {
	why := fault.New(fault.Internal, fault.Plugin, "the sink did not say how the delivery went")
	defer func() {
		if p := recover(); p != nil {
			why = panicked(p)
		}
		for _, i := range items {
			i.Answer(0, why)
		}
	}()
	x.Deliver(items)
}
