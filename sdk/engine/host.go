package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin"
	enginev1 "github.com/picloud/picloud/sdk/proto/engine/v1"
)

// Request is one run that the host asks for.
type Request struct {
	Bundle      string // hash of a loaded bundle
	ExecutionID string
	Attempt     int
	Envelope    []byte // as the outbox keeps it
	Body        []byte
	// Log takes lines as they come, on the session's goroutine, so it must not block.
	Log func([]Log)
	// Call answers a service call of the script. It runs on a goroutine of its own and is told when the run ends.
	Call func(ctx context.Context, service, method string, args []byte) ([]byte, error)
}

// Grace is how long past its end a run may take to say so before its process counts as stuck.
const Grace = 250 * time.Millisecond

// describeLimit bounds the first word of an engine.
const describeLimit = 5 * time.Second

// callsAtOnce bounds the service calls of one run that are under way.
const callsAtOnce = 16

// Client is one engine process as the host sees it. Its methods are safe for concurrent use; all fail with a fault of
// kind fault.EngineLost once the process is gone.
type Client struct {
	rpc    enginev1.EngineClient
	info   Info
	sender *plugin.Sender[*enginev1.Message]
	window chan struct{} // one token for each invocation that the engine takes at one time
	cancel context.CancelFunc

	mu    sync.Mutex
	runs  map[uint64]*run
	next  uint64
	lost  chan struct{} // closed when the session has ended
	stuck chan struct{} // closed when a run did not end in time
	once  sync.Once
}

// Dial opens the session with an engine that serves on conn. Close ends it.
func Dial(ctx context.Context, conn grpc.ClientConnInterface) (*Client, error) {
	c := &Client{
		rpc: enginev1.NewEngineClient(conn), runs: map[uint64]*run{}, lost: make(chan struct{}), stuck: make(chan struct{}),
	}
	soon, stop := context.WithTimeout(ctx, describeLimit)
	defer stop()
	described, err := c.rpc.Describe(soon, &enginev1.DescribeRequest{})
	if err != nil {
		return nil, fmt.Errorf("describe: %w", err)
	}
	c.info = infoFromWire(described)
	c.window = make(chan struct{}, max(1, described.GetWindow()))
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stream, err := c.rpc.Session(life)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open session: %w", err)
	}
	c.cancel = cancel
	c.sender = plugin.NewSender(func(batch []*enginev1.Message) error {
		return stream.Send(&enginev1.Frame{Messages: batch})
	}, messageSize)
	go c.receive(stream)
	return c, nil
}

func messageSize(m *enginev1.Message) int {
	switch b := m.GetBody().(type) {
	case *enginev1.Message_Invoke:
		return len(b.Invoke.GetBody()) + len(b.Invoke.GetEnvelope()) + 128
	case *enginev1.Message_Chunk:
		return len(b.Chunk.GetData()) + 32
	case *enginev1.Message_Output:
		return len(b.Output.GetData()) + 64
	case *enginev1.Message_Call:
		return len(b.Call.GetArgs()) + 64
	case *enginev1.Message_CallResult:
		return len(b.CallResult.GetResult()) + 64
	case *enginev1.Message_Logs:
		return 256 * len(b.Logs.GetLines())
	}
	return 32
}

// Info is what the engine said of itself.
func (c *Client) Info() Info { return c.info }

// Lost is closed when the session has ended: the process is gone, or of no use any more.
func (c *Client) Lost() <-chan struct{} { return c.lost }

// Stuck is closed when a run did not end within Grace of being told to. Only the end of the process stops it.
func (c *Client) Stuck() <-chan struct{} { return c.stuck }

// Close ends the session and every run in it.
func (c *Client) Close() {
	c.cancel()
	<-c.lost
}

// Load is Engine.Load in the process.
func (c *Client) Load(ctx context.Context, b Bundle) (Loaded, error) {
	m, err := c.rpc.Load(ctx, bundleToWire(b))
	if err != nil {
		return Loaded{}, c.broken(ctx, err)
	}
	return loadedFromWire(m)
}

// Unload is Engine.Unload in the process.
func (c *Client) Unload(ctx context.Context, hash string) error {
	if _, err := c.rpc.Unload(ctx, &enginev1.UnloadRequest{Hash: hash}); err != nil {
		return c.broken(ctx, err)
	}
	return nil
}

// broken tells a call that failed with its process from one that its caller gave up.
func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fault.New(fault.Deadline, fault.Plugin, "the engine %s did not answer in time", c.info.Name)
	}
	select {
	case <-c.lost:
		return c.lostFault()
	case <-time.After(Grace): // the session's end follows the call's within moments, if the process died
		return fault.New(fault.Internal, fault.Plugin, "the engine %s: %v", c.info.Name, err)
	}
}

func (c *Client) lostFault() *fault.Fault {
	return fault.New(fault.EngineLost, fault.Plugin, "the engine process ended during the run")
}

// run is one invocation under way, on the host's side.
type run struct {
	id     uint64
	req    *Request
	ctx    context.Context // of its service calls
	window *plugin.Window  // of the request's body
	calls  chan struct{}

	mu     sync.Mutex
	queue  []*enginev1.Output
	credit int64 // bytes of answer that the engine may still send
	closed bool  // an end has come; nothing may follow
	wake   chan struct{}
}

// Invoke runs a loaded bundle once. The answer goes to out, whose methods are called on the caller's goroutine. When ctx
// ends the run is told to end; if it has not within Grace, Invoke returns all the same and Stuck is closed. nil means
// that the answer is complete, else the error is a *fault.Fault or what out returned.
func (c *Client) Invoke(ctx context.Context, r *Request, out Reply) error {
	select {
	case c.window <- struct{}{}:
		defer func() { <-c.window }()
	case <-ctx.Done():
		return fault.New(fault.Unavailable, fault.Platform, "the engine %s took no more invocations in time", c.info.Name)
	case <-c.lost:
		return c.unstarted()
	}
	callCtx, endCalls := context.WithCancel(ctx)
	defer endCalls()
	x := &run{
		req: r, ctx: callCtx, calls: make(chan struct{}, callsAtOnce), wake: make(chan struct{}, 1),
		credit: plugin.WindowBytes,
	}
	c.mu.Lock()
	c.next++
	x.id = c.next
	c.runs[x.id] = x
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.runs, x.id)
		c.mu.Unlock()
	}()
	if err := c.begin(ctx, x); err != nil {
		return c.unstarted()
	}
	return c.follow(ctx, x, out)
}

// unstarted says that the process was gone before the run began, so nothing was started.
func (c *Client) unstarted() *fault.Fault {
	return fault.New(fault.Unavailable, fault.Plugin, "the engine process ended before the run")
}

// begin sends the invocation; a large body follows in chunks, as fast as the engine takes them.
func (c *Client) begin(ctx context.Context, x *run) error {
	m := &enginev1.Invoke{
		Bundle: x.req.Bundle, ExecutionId: x.req.ExecutionID, Attempt: int64(x.req.Attempt), Envelope: x.req.Envelope,
		BodyBytes: int64(len(x.req.Body)),
	}
	if deadline, ok := ctx.Deadline(); ok {
		m.TimeoutMs = max(1, time.Until(deadline).Milliseconds())
	}
	if len(x.req.Body) <= plugin.ChunkBytes {
		m.Body = x.req.Body
		return c.send(x, &enginev1.Message{Body: &enginev1.Message_Invoke{Invoke: m}})
	}
	x.window = plugin.NewWindow()
	if err := c.send(x, &enginev1.Message{Body: &enginev1.Message_Invoke{Invoke: m}}); err != nil {
		return err
	}
	go func() {
		for body := x.req.Body; len(body) > 0; {
			n, err := x.window.Take(x.ctx, min(len(body), plugin.ChunkBytes))
			if err != nil {
				return // the run has ended
			}
			chunk := &enginev1.Message{Body: &enginev1.Message_Chunk{Chunk: &enginev1.Chunk{Data: body[:n]}}}
			if c.send(x, chunk) != nil {
				return
			}
			body = body[n:]
		}
	}()
	return nil
}

func (c *Client) send(x *run, m *enginev1.Message) error {
	m.Id = x.id
	return c.sender.Send(m)
}

// follow hands the answer on until it ends.
func (c *Client) follow(ctx context.Context, x *run, out Reply) error {
	var why error // the run was told to end
	var grace <-chan time.Time
	end := func(err error) {
		if why != nil {
			return
		}
		why = err
		_ = c.send(x, &enginev1.Message{Body: &enginev1.Message_Cancel{Cancel: &enginev1.Cancel{}}}) // lost: seen below
		timer := time.NewTimer(Grace)
		grace = timer.C
	}
	done := ctx.Done()
	var consumed int64
	for {
		for _, m := range x.take() {
			if why == nil {
				if err := pass(m, out); err != nil {
					end(err)
				}
			}
			if m.GetEnd() {
				switch f := faultFromWire(m.GetFault()); {
				case f != nil:
					return f
				case why != nil:
					return why
				}
				return nil
			}
			if consumed += int64(len(m.GetData())); consumed >= plugin.WindowBytes/4 {
				x.grant(consumed)
				_ = c.send(x, &enginev1.Message{Body: &enginev1.Message_Credit{Credit: &enginev1.Credit{Bytes: consumed}}})
				consumed = 0
			}
		}
		select {
		case <-x.wake:
		case <-done:
			done = nil
			end(fault.New(fault.Deadline, fault.Script, "the run was stopped: %v", context.Cause(ctx)))
		case <-grace:
			c.once.Do(func() { close(c.stuck) })
			return why
		case <-c.lost:
			// What arrived before the end still counts.
			if x.ended() {
				continue
			}
			return c.lostFault()
		}
	}
}

// pass hands a part of an answer on.
func pass(m *enginev1.Output, out Reply) error {
	if m.GetHead() != nil {
		if err := out.Head(headFromWire(m.GetHead())); err != nil {
			return err
		}
	}
	if len(m.GetData()) == 0 {
		return nil
	}
	_, err := out.Write(m.GetData())
	return err
}

// take returns what has arrived.
func (x *run) take() []*enginev1.Output {
	x.mu.Lock()
	defer x.mu.Unlock()
	q := x.queue
	x.queue = nil
	return q
}

func (x *run) ended() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.closed && len(x.queue) > 0
}

func (x *run) grant(n int64) {
	x.mu.Lock()
	x.credit += n
	x.mu.Unlock()
}

// errProtocol says that the engine broke the contract: the session is of no use any more.
var errProtocol = errors.New("the engine broke the protocol")

// push queues a part of the answer. An engine that sends past its credit or its end breaks the contract.
func (x *run) push(m *enginev1.Output) error {
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return fmt.Errorf("%w: output after the end", errProtocol)
	}
	if x.credit -= int64(len(m.GetData())); x.credit < 0 {
		x.mu.Unlock()
		return fmt.Errorf("%w: output beyond its credit", errProtocol)
	}
	x.closed = m.GetEnd()
	x.queue = append(x.queue, m)
	x.mu.Unlock()
	select {
	case x.wake <- struct{}{}:
	default:
	}
	return nil
}

// receive takes messages in until the session ends, and then ends every run.
func (c *Client) receive(stream grpc.BidiStreamingClient[enginev1.Frame, enginev1.Frame]) {
	defer close(c.lost)
	defer c.sender.Close()
	defer c.cancel() // first of the three: a send in progress ends with the stream
	for {
		frame, err := stream.Recv()
		if err != nil {
			return // whatever it is: io.EOF, a broken connection, garbage
		}
		for _, m := range frame.GetMessages() {
			if c.handle(m) != nil {
				return
			}
		}
	}
}

// handle takes one message in. A message for a run that has ended is dropped: it may have crossed a Cancel.
func (c *Client) handle(m *enginev1.Message) error {
	c.mu.Lock()
	x := c.runs[m.GetId()]
	known := m.GetId() != 0 && m.GetId() <= c.next
	c.mu.Unlock()
	if x == nil {
		if !known {
			return fmt.Errorf("%w: unknown invocation", errProtocol)
		}
		return nil
	}
	switch b := m.GetBody().(type) {
	case *enginev1.Message_Output:
		return x.push(b.Output)
	case *enginev1.Message_Logs:
		if x.req.Log != nil {
			x.req.Log(logsFromWire(b.Logs))
		}
	case *enginev1.Message_Credit:
		if x.window != nil {
			x.window.Grant(b.Credit.GetBytes())
		}
	case *enginev1.Message_Call:
		select {
		case x.calls <- struct{}{}:
			go c.serveCall(x, b.Call)
		default:
			f := fault.New(fault.Limit, fault.Script, "more than %d service calls at one time", callsAtOnce)
			return c.answerCall(x, b.Call, nil, f)
		}
	default:
		return fmt.Errorf("%w: a message that only the host sends", errProtocol)
	}
	return nil
}

func (c *Client) serveCall(x *run, m *enginev1.Call) {
	defer func() { <-x.calls }()
	result, err := x.req.Call(x.ctx, m.GetService(), m.GetMethod(), m.GetArgs())
	_ = c.answerCall(x, m, result, err) // a lost session has nobody to answer
}

func (c *Client) answerCall(x *run, m *enginev1.Call, result []byte, err error) error {
	return c.send(x, &enginev1.Message{Body: &enginev1.Message_CallResult{CallResult: &enginev1.CallResult{
		Call: m.GetCall(), Result: result, Fault: faultToWire(err),
	}}})
}
