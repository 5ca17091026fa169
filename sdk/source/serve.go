package source

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin"
	sourcev1 "github.com/picloud/picloud/sdk/proto/source/v1"
)

// PluginName is the name under which a process serves its source.
const PluginName = "source"

// Versions are the protocol versions that the host can speak, for go-plugin to negotiate. What it dispenses under
// PluginName is a *Client.
func Versions() map[int]goplugin.PluginSet { return versions(nil) }

func versions(s *server) map[int]goplugin.PluginSet {
	return map[int]goplugin.PluginSet{1: {PluginName: &adapter{server: s}}}
}

// Serve runs a source as a plugin process, which ends with its session. On Linux the process confines itself as far as the machine
// permits, unless plugin.LayersEnv says otherwise: it has sockets of the Internet, also those that listen, and can read how names are
// looked up there and which certificates are trusted, but no other file.
func Serve(s Source) {
	process := plugin.Start(plugin.Network)
	x := newServer(s)
	x.layers, x.begun, x.ended = process.Layers(), process.Opened, process.Closed
	process.Serve(versions(x))
}

// adapter fits a source into go-plugin. On the host's side it has no server and dials.
type adapter struct {
	goplugin.NetRPCUnsupportedPlugin
	server *server
}

func (a *adapter) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	sourcev1.RegisterSourceServer(s, a.server)
	return nil
}

func (a *adapter) GRPCClient(ctx context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return Dial(ctx, conn)
}

type server struct {
	sourcev1.UnimplementedSourceServer
	source Source
	layers []plugin.Layer

	begun, ended func() // called at the beginning and the end of a session
}

func newServer(s Source) *server {
	nothing := func() {}
	return &server{source: s, begun: nothing, ended: nothing}
}

func (s *server) Describe(context.Context, *sourcev1.DescribeRequest) (*sourcev1.DescribeResponse, error) {
	return infoToWire(s.source.Info(), s.layers), nil
}

func (s *server) Check(_ context.Context, m *sourcev1.CheckRequest) (answer *sourcev1.CheckResponse, _ error) {
	defer func() {
		if p := recover(); p != nil {
			answer = problemsToWire([]Problem{{Message: panicked(p).Message}})
		}
	}()
	return problemsToWire(s.source.Check(m.GetConfig())), nil
}

func panicked(p any) *fault.Fault {
	f := fault.New(fault.Internal, fault.Plugin, "the source panicked: %v", p)
	f.Detail = string(debug.Stack())
	return f
}

// Session serves one host. Its end ends every instance.
func (s *server) Session(stream grpc.BidiStreamingServer[sourcev1.Frame, sourcev1.Frame]) error {
	s.begun()
	if err := stream.SendHeader(nil); err != nil {
		s.ended()
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	h := &session{source: s.source, ctx: ctx, instances: map[uint64]*instance{}}
	h.sender = plugin.NewSender(func(batch []*sourcev1.Message) error { return stream.Send(frame(batch)) }, messageSize)
	defer h.sender.Close()
	defer h.running.Wait()
	defer s.ended() // a process of its own: what ignores its end does not keep it
	defer cancel()
	return plugin.Attend(stream, h.sender, h.handle, nil)
}

func frame(batch []*sourcev1.Message) *sourcev1.Frame { return &sourcev1.Frame{Messages: batch} }

// session is the source's side of a Session.
type session struct {
	source  Source
	ctx     context.Context
	sender  *plugin.Sender[*sourcev1.Message]
	running sync.WaitGroup

	mu        sync.Mutex
	instances map[uint64]*instance
}

func (h *session) handle(m *sourcev1.Message) {
	if start := m.GetStart(); start != nil {
		h.start(m.GetInstance(), startFromWire(start))
		return
	}
	h.mu.Lock()
	i := h.instances[m.GetInstance()]
	h.mu.Unlock()
	if i == nil {
		return
	}
	switch b := m.GetBody().(type) {
	case *sourcev1.Message_Stop:
		i.stop()
	case *sourcev1.Message_Credit:
		i.grant(b.Credit.GetBatches())
	case *sourcev1.Message_Ack:
		i.answer(b.Ack.GetBatch(), nil)
	case *sourcev1.Message_Nack:
		i.answer(b.Nack.GetBatch(), &Refused{
			After: time.Duration(b.Nack.GetRetryAfterMs()) * time.Millisecond, Reason: b.Nack.GetReason(),
		})
	}
}

func (h *session) start(number uint64, s Setting) {
	i := &instance{session: h, number: number, waiting: map[uint64]chan error{}}
	i.ctx, i.stop = context.WithCancel(h.ctx)
	h.mu.Lock()
	h.instances[number] = i
	h.mu.Unlock()
	h.running.Go(func() {
		err := i.run(s)
		if err == nil && i.ctx.Err() == nil {
			err = fault.New(fault.Internal, fault.Plugin, "the source ended without being stopped")
		}
		if i.ctx.Err() != nil {
			err = nil // it was stopped
		}
		i.stop()
		h.mu.Lock()
		delete(h.instances, number)
		h.mu.Unlock()
		i.mu.Lock()
		i.report()
		i.mu.Unlock()
		i.send(&sourcev1.Message{Body: &sourcev1.Message_Ended{Ended: &sourcev1.Ended{Fault: plugin.FaultToWire(err)}}})
	})
}

// instance is a Run, and the Emitter of it.
type instance struct {
	session *session
	number  uint64
	ctx     context.Context
	stop    context.CancelFunc

	mu      sync.Mutex
	credit  int64
	more    chan struct{} // closed when there may be room for a batch; nil while nobody waits
	last    uint64
	waiting map[uint64]chan error // batches without an answer, also where nobody waits for it any more
	cursor  bool                  // the only one of them has a cursor

	logSince        time.Time
	logged, dropped int // lines: since logSince, and without a word about it
}

// run runs the source. Where it panics, that is its own fault and ends nobody else's instances.
func (i *instance) run(s Setting) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
		}
	}()
	return i.session.source.Run(i.ctx, s, i)
}

func (i *instance) send(m *sourcev1.Message) {
	m.Instance = i.number
	_ = i.session.sender.Send(m) // lost: the session is over
}

func (i *instance) grant(n int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.credit += n
	i.wake()
}

// wake has those look again who wait for room. It is called with mu held.
func (i *instance) wake() {
	if i.more != nil {
		close(i.more)
		i.more = nil
	}
}

// room reports whether a batch may be sent now: one with a cursor is alone. It is called with mu held.
func (i *instance) room(b *Batch) bool {
	return i.credit > 0 && !i.cursor && (b.Cursor == "" || len(i.waiting) == 0)
}

func (i *instance) answer(batch uint64, err *Refused) {
	i.mu.Lock()
	answered := i.waiting[batch]
	delete(i.waiting, batch)
	i.cursor = i.cursor && len(i.waiting) > 0
	i.wake()
	i.mu.Unlock()
	switch {
	case answered == nil:
	case err == nil:
		answered <- nil
	default:
		answered <- err
	}
}

// errEnded says that nothing is taken in any more.
var errEnded = errors.New("the instance has ended: it is not known whether the batch was taken in")

func (i *instance) Offer(ctx context.Context, b Batch) error {
	if err := b.Validate(); err != nil {
		return err
	}
	answered, err := i.begin(ctx, &b)
	if err != nil {
		return err
	}
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
	case <-i.ctx.Done():
	}
	select {
	case err := <-answered: // it came meanwhile
		return err
	default:
	}
	if i.ctx.Err() != nil {
		return errEnded
	}
	return fmt.Errorf("it is not known whether the batch was taken in: %w", context.Cause(ctx))
}

// begin sends a batch once there is room for it.
func (i *instance) begin(ctx context.Context, b *Batch) (answered chan error, err error) {
	for {
		i.mu.Lock()
		if i.room(b) {
			i.credit--
			i.last++
			answered = make(chan error, 1)
			i.waiting[i.last], i.cursor = answered, b.Cursor != ""
			i.send(&sourcev1.Message{Body: &sourcev1.Message_Batch{Batch: batchToWire(i.last, b)}}) // in the order of their ids
			i.mu.Unlock()
			return answered, nil
		}
		if i.more == nil {
			i.more = make(chan struct{})
		}
		more := i.more
		i.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-i.ctx.Done():
			return nil, errEnded
		}
	}
}

func (i *instance) Emit(ctx context.Context, b Batch) error {
	for {
		err := i.Offer(ctx, b)
		var refused *Refused
		if !errors.As(err, &refused) {
			return err
		}
		again := time.NewTimer(refused.After)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return context.Cause(ctx)
		case <-i.ctx.Done():
			again.Stop()
			return errEnded
		}
	}
}

// Limits of what an instance logs. What is beyond them is dropped, and counted: it would stand in the way of batches, and fill the log of
// the node.
const (
	maxLogText = 8 << 10 // bytes of a line
	logLines   = 100     // in each logWindow
	logWindow  = 10 * time.Second
)

func (i *instance) Log(level, format string, args ...any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if now := time.Now(); now.Sub(i.logSince) > logWindow {
		i.logSince, i.logged = now, 0
	}
	if i.logged++; i.logged > logLines {
		i.dropped++
		return
	}
	i.report()
	i.line(level, fmt.Sprintf(format, args...))
}

// report says how many lines were dropped since it was last said. It is called with mu held.
func (i *instance) report() {
	if i.dropped > 0 {
		i.line("warn", fmt.Sprintf("%d lines more were dropped", i.dropped))
		i.dropped = 0
	}
}

func (i *instance) line(level, text string) {
	i.send(&sourcev1.Message{Body: &sourcev1.Message_Log{Log: &sourcev1.Log{
		Level: plugin.WireText(level), Message: []byte(fault.Cut(text, maxLogText-len("…"))),
	}}})
}
