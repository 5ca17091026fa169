package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
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
	// Envelope is as the outbox keeps it. It and Body are sent as they are, maybe after a run that was given up, so nobody
	// may change them any more.
	Envelope []byte
	Body     []byte
	// Log takes lines as they come, on the session's goroutine, so it must not block. It is not called once Invoke has
	// returned.
	Log func([]Log)
	// Call answers a service call of the script. It runs on a goroutine of its own, several at one time, and is told when
	// the run ends; it may outlive Invoke by as long as it takes to notice. Without it there are no services.
	Call func(ctx context.Context, service, method string, args []byte) ([]byte, error)
}

// Grace is how long past its end a run may take to say so before its process counts as stuck; longer where many end together.
const Grace = 250 * time.Millisecond

// callsAtOnce bounds the service calls of one run that are under way.
const callsAtOnce = 16

// Client is one engine process as the host sees it. Its methods are safe for concurrent use; all fail with a fault of
// kind fault.EngineLost once the process is gone.
type Client struct {
	rpc    enginev1.EngineClient
	info   Info
	layers []plugin.Layer
	link   *plugin.Link[*enginev1.Message]
	window *Room // one place for each invocation that the engine takes at one time

	mu    sync.Mutex
	runs  map[uint64]*run
	next  uint64
	stuck chan struct{} // closed when a run did not end in time
	once  sync.Once

	ending atomic.Int64 // runs that were told to end
}

// together is how many runs may be told to end at one time before that takes them longer.
const together = 8

// grace is how long a run has to end that is told to now. Many have to share the processor for it.
func (c *Client) grace() time.Duration {
	return Grace + Grace*time.Duration(c.ending.Load())/together
}

// Dial opens the session with an engine that serves on conn. Close ends it.
func Dial(ctx context.Context, conn grpc.ClientConnInterface) (*Client, error) {
	c := &Client{rpc: enginev1.NewEngineClient(conn), runs: map[uint64]*run{}, stuck: make(chan struct{})}
	soon, stop := context.WithTimeout(ctx, plugin.CallLimit)
	defer stop()
	described, err := c.rpc.Describe(soon, &enginev1.DescribeRequest{})
	if err != nil {
		return nil, fmt.Errorf("describe: %w", err)
	}
	c.info, c.layers = infoFromWire(described), plugin.LayersFromWire(described.GetLayers())
	c.window = NewRoom(int(max(1, described.GetWindow())))
	if c.link, err = plugin.Open(soon, c.rpc.Session, frame, messageSize); err != nil {
		return nil, err
	}
	go c.link.Receive(c.handle, nil)
	return c, nil
}

func messageSize(m *enginev1.Message) int {
	switch b := m.GetBody().(type) {
	case *enginev1.Message_Invoke:
		n := 128
		for _, e := range b.Invoke.GetEvents() {
			n += len(e.GetBody()) + len(e.GetEnvelope())
		}
		return n
	case *enginev1.Message_Chunk:
		return len(b.Chunk.GetData()) + 32
	case *enginev1.Message_Output:
		n := len(b.Output.GetData()) + 64
		for _, h := range b.Output.GetHead().GetHeaders() {
			n += len(h.GetName()) + len(h.GetValue()) + headerBytes
		}
		return n
	case *enginev1.Message_Call:
		return len(b.Call.GetArgs()) + 64
	case *enginev1.Message_CallResult:
		return len(b.CallResult.GetResult()) + 64
	case *enginev1.Message_Logs:
		n := 0
		for _, l := range b.Logs.GetLines() {
			n += len(l.GetMessage()) + len(l.GetData()) + 32
		}
		return n
	}
	return 32
}

// Info is what the engine said of itself.
func (c *Client) Info() Info { return c.info }

// Layers are the layers of isolation that the process says to have put on itself.
func (c *Client) Layers() []plugin.Layer { return c.layers }

// Lost is closed when the session has ended: the process is gone, or of no use any more.
func (c *Client) Lost() <-chan struct{} { return c.link.Lost() }

// Err is why the session ended; nil while it lasts. It wraps plugin.ErrProtocol where the engine broke the contract.
func (c *Client) Err() error { return c.link.Err() }

// Stuck is closed when a run did not end within Grace of being told to. Only the end of the process stops it.
func (c *Client) Stuck() <-chan struct{} { return c.stuck }

// Close ends the session and every run in it.
func (c *Client) Close() { c.link.Close() }

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

// Health asks whether the engine can take invocations.
func (c *Client) Health(ctx context.Context) error {
	if _, err := c.rpc.Health(ctx, &enginev1.HealthRequest{}); err != nil {
		return c.broken(ctx, err)
	}
	return nil
}

// Drain has the engine refuse new invocations, with a fault of kind fault.Unavailable, and waits until no run is left.
func (c *Client) Drain(ctx context.Context) error {
	if _, err := c.rpc.Drain(ctx, &enginev1.DrainRequest{}); err != nil {
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
	case <-c.link.Lost():
		return c.lostFault()
	case <-time.After(Grace): // the session's end follows the call's within moments, if the process died
		return fault.New(fault.Internal, fault.Plugin, "the engine %s: %v", c.info.Name, err)
	}
}

func (c *Client) lostFault() *fault.Fault {
	f := fault.New(fault.EngineLost, fault.Plugin, "the engine process ended during the run")
	if err := c.Err(); errors.Is(err, plugin.ErrProtocol) {
		f.Detail = err.Error()
	}
	return f
}

// Invoke runs a loaded bundle once. The answer goes to out, whose methods are called on the caller's goroutine. When ctx
// ends or out fails, the run is told to end; if it has not within Grace, Invoke returns all the same and Stuck is closed.
// nil means that the answer is complete, else the error is what out returned or a *fault.Fault.
func (c *Client) Invoke(ctx context.Context, r *Request, out Reply) error {
	if n := len(r.Envelope) + len(r.Bundle) + len(r.ExecutionID); n > invokeBytes {
		return fault.New(fault.Invalid, fault.Caller, "the event's envelope has %d bytes, more than %d", n, invokeBytes)
	}
	if ctx.Err() != nil {
		return c.full()
	}
	select {
	case c.window.Places() <- struct{}{}:
		defer c.window.Leave()
	case <-ctx.Done():
		return c.full()
	case <-c.link.Lost():
		return c.unstarted()
	}
	x := &run{req: r, ctx: ctx, wake: make(chan struct{}, 1), credit: plugin.WindowBytes}
	if len(r.Body) > plugin.ChunkBytes {
		x.window = &plugin.Window{}
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
		x.mu.Lock()
		x.over = true
		if x.stop != nil {
			x.stop()
		}
		x.mu.Unlock()
	}()
	if err := c.begin(ctx, x); err != nil {
		return c.unstarted()
	}
	return c.follow(ctx, x, out)
}

// invokeBytes bounds what an invocation holds besides its body, as one message must hold it and a chunk of the body.
const invokeBytes = plugin.MaxMessage / 2

// full says that the caller gave up before the engine took the run.
func (c *Client) full() *fault.Fault {
	return fault.New(fault.Unavailable, fault.Platform, "the engine %s took no more invocations in time", c.info.Name)
}

// unstarted says that the process was gone before the run began, so nothing was started.
func (c *Client) unstarted() *fault.Fault {
	return fault.New(fault.Unavailable, fault.Plugin, "the engine process ended before the run")
}

// begin sends the invocation; a large body follows in chunks, as fast as the engine takes them.
func (c *Client) begin(ctx context.Context, x *run) error {
	first, m, e := invokeMessage()
	m.Bundle, m.ExecutionId, m.Attempt = x.req.Bundle, x.req.ExecutionID, int64(x.req.Attempt)
	e.Envelope, e.BodyBytes = x.req.Envelope, int64(len(x.req.Body))
	if deadline, ok := ctx.Deadline(); ok {
		m.TimeoutMs = max(1, time.Until(deadline).Milliseconds())
	}
	if x.window == nil {
		e.Body = x.req.Body
		return c.send(x, first)
	}
	if err := c.send(x, first); err != nil {
		return err
	}
	x.mu.Lock()
	help := x.helper()
	x.mu.Unlock()
	go func() {
		for body := x.req.Body; len(body) > 0; {
			n, err := x.window.Take(help, min(len(body), plugin.ChunkBytes))
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

// send queues a message of a run. Where that fails the session is at its end, or comes to it.
func (c *Client) send(x *run, m *enginev1.Message) error {
	m.Id = x.id
	return c.link.Send(m)
}

// follow hands the answer on until it ends.
func (c *Client) follow(ctx context.Context, x *run, out Reply) error {
	var why error    // the run was told to end
	var refused bool // by out
	var grace <-chan time.Time
	end := func(err error) {
		if why != nil {
			return
		}
		why = err
		c.ending.Add(1)
		_ = c.send(x, &enginev1.Message{Body: &enginev1.Message_Cancel{Cancel: &enginev1.Cancel{}}}) // lost: seen below
		grace = time.After(c.grace())
	}
	defer func() {
		if why != nil {
			c.ending.Add(-1)
		}
	}()
	done := ctx.Done()
	var consumed int64
	for {
		for _, m := range x.take() {
			if why == nil {
				if err := pass(m, out); err != nil {
					refused = true
					end(err)
				}
			}
			if m.GetEnd() {
				return x.result(m, why, refused)
			}
			if n := len(m.GetData()); n > 0 {
				consumed += plugin.Cost(n)
			}
			if consumed >= plugin.WindowBytes/4 {
				x.grant(consumed)
				_ = c.send(x, &enginev1.Message{Body: &enginev1.Message_Credit{Credit: &enginev1.Credit{Bytes: consumed}}})
				consumed = 0
			}
		}
		select {
		case <-x.wake:
		case <-done:
			done = nil
			end(stopped(ctx))
		case <-grace:
			// Who was held up for long, as on a busy machine, finds both.
			if x.ended() {
				continue
			}
			c.once.Do(func() { close(c.stuck) })
			return why
		case <-c.link.Lost():
			// What arrived before the end still counts.
			if x.ended() {
				continue
			}
			return c.lostFault()
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
			return errors.New("unknown invocation")
		}
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.over:
		return nil
	case x.closed:
		return errors.New("a message after the end")
	}
	switch b := m.GetBody().(type) {
	case *enginev1.Message_Output:
		return x.push(b.Output)
	case *enginev1.Message_Logs:
		if x.req.Log != nil {
			x.req.Log(logsFromWire(b.Logs))
		}
	case *enginev1.Message_Credit:
		if x.window == nil || x.window.Grant(b.Credit.GetBytes()) != nil {
			return errors.New("credit for what was not sent")
		}
	case *enginev1.Message_Call:
		if x.calls == callsAtOnce {
			f := fault.New(fault.Limit, fault.Script, "more than %d service calls at one time", callsAtOnce)
			_ = c.answerCall(x, b.Call, nil, f) // a lost session has nobody to answer
			return nil
		}
		x.calls++
		x.asked = true
		go c.serveCall(x.helper(), x, b.Call)
	default:
		return errors.New("a message that only the host sends")
	}
	return nil
}

func (c *Client) serveCall(ctx context.Context, x *run, m *enginev1.Call) {
	var result []byte
	err := error(fault.New(fault.NotFound, fault.Script, "there is no service %s.%s", m.GetService(), m.GetMethod()))
	if x.req.Call != nil {
		if waits(m.GetService(), m.GetMethod()) {
			defer x.lend(c.window)()
		}
		result, err = x.req.Call(ctx, m.GetService(), m.GetMethod(), m.GetArgs())
	}
	if len(result) > callBytes {
		result, err = nil, fault.New(fault.Limit, fault.Platform, "the service answered %d bytes, more than %d", len(result), callBytes)
	}
	x.mu.Lock()
	x.calls--
	x.mu.Unlock()
	_ = c.answerCall(x, m, result, err)
}

func (c *Client) answerCall(x *run, m *enginev1.Call, result []byte, err error) error {
	return c.send(x, &enginev1.Message{Body: &enginev1.Message_CallResult{CallResult: &enginev1.CallResult{
		Call: m.GetCall(), Result: result, Fault: plugin.FaultToWire(err),
	}}})
}
