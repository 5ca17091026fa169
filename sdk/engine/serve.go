package engine

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	goplugin "github.com/hashicorp/go-plugin"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin"
	enginev1 "github.com/picloud/picloud/sdk/proto/engine/v1"
)

// PluginName is the name under which a process serves its engine.
const PluginName = "engine"

// Versions are the protocol versions that the host can speak, for go-plugin to negotiate. What it dispenses under
// PluginName is a *Client.
func Versions() map[int]goplugin.PluginSet { return versions(nil) }

func versions(s *server) map[int]goplugin.PluginSet {
	return map[int]goplugin.PluginSet{1: {PluginName: &adapter{server: s}}}
}

// headroom is what the heap may hold beyond what lives, twice over, before it is collected. A script engine makes much that
// is short-lived and keeps little: collection took a fifth of its CPU. A request for a Go script that sorts JSON costs the
// process 56 µs with this, and 80 without.
const headroom = 16 << 20

// Serve runs an engine as a plugin process, which ends with its session.
//
// On Linux the process confines itself as far as the machine permits, unless plugin.LayersEnv says otherwise: it has 1 GB of memory,
// and from the opening of the session on, before the first Load, it can neither open files or sockets nor start or touch other
// processes. What the engine needs of those it has to have by then. The host is told what holds.
func Serve(e Engine) {
	ballast := make([]byte, headroom) // is never touched, so takes no memory: it counts as living
	defer runtime.KeepAlive(ballast)
	process := plugin.Start(plugin.Nothing)
	s := newServer(e)
	s.layers, s.begun, s.ended = process.Layers(), process.Opened, process.Closed
	process.Serve(versions(s))
}

// adapter fits an engine into go-plugin. On the host's side it has no server and dials.
type adapter struct {
	goplugin.NetRPCUnsupportedPlugin
	server *server
}

func (a *adapter) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	enginev1.RegisterEngineServer(s, a.server)
	return nil
}

func (a *adapter) GRPCClient(ctx context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return Dial(ctx, conn)
}

// Register adds an engine to a gRPC server, for a host in the same process.
func Register(s grpc.ServiceRegistrar, e Engine) { enginev1.RegisterEngineServer(s, newServer(e)) }

// window is how many invocations a process takes at one time; more wait at the host.
const window = 256

type server struct {
	enginev1.UnimplementedEngineServer
	engine Engine
	layers []plugin.Layer // of isolation, that the process has put on itself
	hold   time.Duration  // of the beginnings of answers

	begun, ended func() // called at the beginning and the end of a session

	mu       sync.RWMutex
	limits   map[string]Limits // by bundle
	draining bool
	running  sync.WaitGroup
	large    *semaphore.Weighted // room for large bodies, in bytes
}

func newServer(e Engine) *server {
	nothing := func() {}
	return &server{
		engine: e, hold: holdFor, begun: nothing, ended: nothing, limits: map[string]Limits{}, large: semaphore.NewWeighted(largeBodies),
	}
}

func (s *server) Describe(context.Context, *enginev1.DescribeRequest) (*enginev1.DescribeResponse, error) {
	return infoToWire(s.engine.Info(), window, s.layers), nil
}

func (s *server) Load(ctx context.Context, m *enginev1.LoadRequest) (*enginev1.LoadResponse, error) {
	b := bundleFromWire(m)
	loaded, err := s.engine.Load(ctx, b)
	if err == nil {
		s.mu.Lock()
		s.limits[b.Hash] = b.Limits
		s.mu.Unlock()
	}
	return loadedToWire(loaded, err), nil
}

func (s *server) Unload(_ context.Context, m *enginev1.UnloadRequest) (*enginev1.UnloadResponse, error) {
	s.engine.Unload(m.GetHash())
	s.mu.Lock()
	delete(s.limits, m.GetHash())
	s.mu.Unlock()
	return &enginev1.UnloadResponse{}, nil
}

func (s *server) Health(context.Context, *enginev1.HealthRequest) (*enginev1.HealthResponse, error) {
	return &enginev1.HealthResponse{}, nil
}

func (s *server) Drain(ctx context.Context, _ *enginev1.DrainRequest) (*enginev1.DrainResponse, error) {
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
		return &enginev1.DrainResponse{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// enter counts a run of a bundle, whose limits it returns, unless no more are taken. Each needs its leave.
func (s *server) enter(bundle string) (Limits, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.draining {
		return Limits{}, fault.New(fault.Unavailable, fault.Platform, "the engine takes no more invocations")
	}
	s.running.Add(1)
	return s.limits[bundle], nil
}

func (s *server) leave() { s.running.Done() }

// Session serves one host. Its end cancels every run.
func (s *server) Session(stream grpc.BidiStreamingServer[enginev1.Frame, enginev1.Frame]) error {
	s.begun()
	defer s.ended()
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	h := &session{server: s, ctx: ctx, runs: map[uint64]*served{}, spare: make(chan *served)}
	h.sender = plugin.NewSender(func(batch []*enginev1.Message) error { return stream.Send(frame(batch)) }, messageSize)
	defer h.sender.Close()
	defer cancel()
	return plugin.Attend(stream, h.sender, h.handle, nil)
}

func frame(batch []*enginev1.Message) *enginev1.Frame { return &enginev1.Frame{Messages: batch} }

// session is the engine's side of a Session.
type session struct {
	server *server
	ctx    context.Context
	sender *plugin.Sender[*enginev1.Message]
	spare  chan *served // to goroutines that wait for work
	spares atomic.Int64

	mu   sync.Mutex
	runs map[uint64]*served
}

// served is one invocation in the engine.
type served struct {
	session *session
	id      uint64
	invoke  *enginev1.Invoke
	event   *enginev1.Event
	body    []byte
	begun   atomic.Bool // the run has begun, or was given up before
	ctx     context.Context
	cancel  context.CancelFunc
	window  plugin.Window // of the answer
	out     reply
	log     logBuffer

	mu   sync.Mutex
	over bool // the end is sent; nothing may follow it
	// Of a body that comes in pieces.
	admitted bool  // all of it may come
	owed     int64 // credit for what has come before that
	weight   int64 // of a large one: what it has of the process' room
	calls    map[uint64]chan *enginev1.CallResult
	places   chan struct{} // of calls under way; made with calls
	next     uint64

	inv  Invocation
	lent int    // calls that wait for another run
	back func() // takes back what they have lent
}

func (h *session) handle(m *enginev1.Message) {
	h.mu.Lock()
	x := h.runs[m.GetId()]
	h.mu.Unlock()
	if b, ok := m.GetBody().(*enginev1.Message_Invoke); ok {
		if x == nil {
			h.begin(m.GetId(), b.Invoke)
		}
		return
	}
	if x == nil {
		return // it has ended
	}
	switch b := m.GetBody().(type) {
	case *enginev1.Message_Cancel:
		x.cancel()
	case *enginev1.Message_Chunk:
		x.receive(b.Chunk.GetData())
	case *enginev1.Message_Credit:
		_ = x.window.Grant(b.Credit.GetBytes()) // the host's count is right, or its run hangs until its deadline
	case *enginev1.Message_CallResult:
		x.mu.Lock()
		answer := x.calls[b.CallResult.GetCall()]
		delete(x.calls, b.CallResult.GetCall())
		x.mu.Unlock()
		if answer != nil {
			answer <- b.CallResult
		}
	}
}

func (h *session) forget(x *served) {
	h.mu.Lock()
	delete(h.runs, x.id)
	h.mu.Unlock()
}

func (h *session) begin(id uint64, m *enginev1.Invoke) {
	x := &served{session: h, id: id, invoke: m}
	x.out.run = x
	limits, err := h.server.enter(m.GetBundle())
	if err != nil {
		x.out.end(err)
		return
	}
	x.out.limit = limits.BodyBytes
	x.log.limit(limits)
	if ms := m.GetTimeoutMs(); ms > 0 {
		x.ctx, x.cancel = context.WithTimeout(h.ctx, time.Duration(ms)*time.Millisecond)
	} else {
		x.ctx, x.cancel = context.WithCancel(h.ctx)
	}
	h.mu.Lock()
	h.runs[id] = x
	h.mu.Unlock()
	if n := len(m.GetEvents()); n != 1 { // batches are in the contract, but no host sends them yet
		x.end(fault.New(fault.Invalid, fault.Platform, "an invocation has one event, not %d", n))
		return
	}
	x.event = m.GetEvents()[0]
	if x.body = x.event.GetBody(); int64(len(x.body)) >= x.event.GetBodyBytes() {
		x.begun.Store(true)
		h.start(x)
		return
	}
	x.body = slices.Clone(x.body)
	context.AfterFunc(x.ctx, x.giveUp)
	if n := x.event.GetBodyBytes(); n > largeBody {
		go x.admit(n)
	} else {
		x.admitted = true
	}
}

// What a body is read into takes many times as much as the body, faster than anything could end the run for it: of those that are
// larger than largeBody, which comes without asking, only so many bytes are in the process at one time. The rest of the others is
// left with the host.
const (
	largeBody   = plugin.WindowBytes + plugin.ChunkBytes
	largeBodies = 8 << 20
)

// admit waits until the rest of a large body may come, and asks for it.
func (x *served) admit(n int64) {
	weight := min(n, largeBodies)
	if x.session.server.large.Acquire(x.ctx, weight) != nil {
		return // it ends with its context
	}
	x.mu.Lock()
	if x.over {
		x.mu.Unlock()
		x.session.server.large.Release(weight)
		return
	}
	x.weight, x.admitted = weight, true
	owed := x.owed
	x.owed = 0
	x.mu.Unlock()
	x.grant(owed)
}

// grant lets the host send more of the body.
func (x *served) grant(bytes int64) {
	if bytes > 0 {
		_ = x.send(&enginev1.Message{Body: &enginev1.Message_Credit{Credit: &enginev1.Credit{Bytes: bytes}}})
	}
}

// owe counts what the host may be granted for what has come, and returns how much that is now.
func (x *served) owe(bytes int64) int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.admitted {
		return bytes
	}
	x.owed += bytes
	return 0
}

// spareRunners is how many goroutines wait for another run. One that has run a script has a stack that fits: growing a
// new one took an eighth of the CPU of a small run.
const spareRunners = 32

// start runs x on a goroutine that waits for work, or on a new one.
func (h *session) start(x *served) {
	select {
	case h.spare <- x:
	default:
		go h.runner(x)
	}
}

func (h *session) runner(x *served) {
	for {
		x.run()
		if h.spares.Add(1) > spareRunners {
			h.spares.Add(-1)
			return
		}
		select {
		case x = <-h.spare:
			h.spares.Add(-1)
		case <-h.ctx.Done():
			return
		}
	}
}

// receive adds a chunk to the body; the run begins when it is whole.
func (x *served) receive(chunk []byte) {
	if x.begun.Load() {
		return // given up, or more than announced: the rest is nobody's
	}
	x.body = append(x.body, chunk...)
	if int64(len(x.body)) >= x.event.GetBodyBytes() {
		if x.begun.CompareAndSwap(false, true) {
			x.session.start(x)
		}
		return
	}
	x.grant(x.owe(plugin.Cost(len(chunk))))
}

// giveUp ends a run whose body did not arrive in time.
func (x *served) giveUp() {
	if !x.begun.CompareAndSwap(false, true) {
		return
	}
	if context.Cause(x.ctx) != context.DeadlineExceeded {
		x.end(fault.New(fault.Cancelled, fault.Platform, "the run was cancelled"))
		return
	}
	x.end(fault.New(fault.Deadline, fault.Platform, "the request's body did not arrive in time"))
}

func (x *served) run() { x.end(x.blame(x.invoked())) }

// end ends the run: what it has logged, then the last message of its answer.
func (x *served) end(err error) {
	x.cancel()
	x.session.forget(x)
	if lines := x.log.finish(); len(lines) > 0 {
		_ = x.send(&enginev1.Message{Body: &enginev1.Message_Logs{Logs: logsToWire(lines)}})
	}
	x.out.end(err)
	x.mu.Lock()
	weight := x.weight
	x.weight = 0
	x.mu.Unlock()
	if weight > 0 {
		x.session.server.large.Release(weight)
	}
	x.session.server.leave()
}

// blame makes a fault of what an engine returned: what is none is the engine's own, unless the run was over.
func (x *served) blame(err error) error {
	var f *fault.Fault
	switch over := x.ctx.Err(); {
	case err == nil:
		return nil
	case errors.As(err, &f) && over == nil:
		return charged(f)
	case f != nil:
		return err
	case over != nil && errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Deadline, fault.Script, "the run was stopped at its deadline")
	case over != nil && errors.Is(err, context.Canceled):
		return fault.New(fault.Cancelled, fault.Platform, "the run was cancelled")
	}
	return fault.New(fault.Internal, fault.Plugin, "%v", err)
}

func (x *served) invoked() (err error) {
	defer func() {
		if p := recover(); p != nil {
			f := fault.New(fault.Internal, fault.Plugin, "the engine panicked: %v", p)
			f.Detail = string(debug.Stack())
			err = f
		}
	}()
	m := x.invoke
	env, err := event.Unmarshal(x.event.GetEnvelope())
	if err != nil {
		f := fault.New(fault.Invalid, fault.Platform, "%v", err)
		f.Fatal = true
		return f
	}
	x.inv = Invocation{
		Bundle: m.GetBundle(), ExecutionID: m.GetExecutionId(), Attempt: int(m.GetAttempt()), Event: env, Body: x.body,
		Log: x.logged, Call: x.call,
	}
	return x.session.server.engine.Invoke(x.ctx, &x.inv, &x.out)
}

// waits reports whether a service call waits for another run.
func waits(service, method string) bool { return service == "invoke" && method == "call" }

// lend gives the run's place back while it waits for another run, once for all the calls that do.
func (x *served) lend() (back func()) {
	if x.inv.Lend == nil {
		return func() {}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.lent++; x.lent == 1 {
		x.back = x.inv.Lend()
	}
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.lent--; x.lent == 0 {
			x.back()
		}
	}
}

// errOver says that a run has ended, for whatever of it still tries to be heard.
var errOver = fault.New(fault.Cancelled, fault.Plugin, "the run is over")

// send queues a message of the run. A session that has ended has cancelled the run, so nobody needs to hear of it here.
func (x *served) send(m *enginev1.Message) error {
	m.Id = x.id
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return errOver
	}
	x.over = m.GetOutput().GetEnd()
	return x.session.sender.Send(m)
}

func (x *served) logged(l Log) {
	if l.Time.IsZero() {
		l.Time = time.Now()
	}
	if lines := x.log.add(l); len(lines) > 0 {
		_ = x.send(&enginev1.Message{Body: &enginev1.Message_Logs{Logs: logsToWire(lines)}})
	}
}

// callBytes bounds the arguments and the result of a service call: what a message can hold, with room for the rest of it.
const callBytes = plugin.MaxMessage - 64<<10

// call asks the host's service and waits, first for one of as many places as the host has for a run.
func (x *served) call(ctx context.Context, service, method string, args []byte) ([]byte, error) {
	if len(args) > callBytes {
		return nil, fault.New(fault.Limit, fault.Script, "the arguments of a service call have %d bytes, more than %d", len(args), callBytes)
	}
	if !utf8.ValidString(service) || !utf8.ValidString(method) || len(service)+len(method) > 1<<10 {
		return nil, fault.New(fault.NotFound, fault.Script, "there is no such service")
	}
	x.mu.Lock()
	if x.calls == nil {
		x.calls, x.places = map[uint64]chan *enginev1.CallResult{}, make(chan struct{}, callsAtOnce)
	}
	x.mu.Unlock()
	select {
	case x.places <- struct{}{}:
		defer func() { <-x.places }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-x.ctx.Done():
		return nil, context.Cause(x.ctx)
	}
	if waits(service, method) {
		defer x.lend()()
	}
	answer := make(chan *enginev1.CallResult, 1)
	x.mu.Lock()
	x.next++
	id := x.next
	x.calls[id] = answer
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		delete(x.calls, id)
		x.mu.Unlock()
	}()
	if err := x.send(&enginev1.Message{Body: &enginev1.Message_Call{Call: &enginev1.Call{
		Call: id, Service: service, Method: method, Args: bytes.Clone(args), // sent later, maybe after the caller gave up
	}}}); err != nil {
		return nil, err
	}
	select {
	case m := <-answer:
		if f := plugin.FaultFromWire(m.GetFault()); f != nil {
			return nil, f
		}
		return m.GetResult(), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-x.ctx.Done():
		return nil, context.Cause(x.ctx)
	}
}
