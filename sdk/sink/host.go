package sink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin"
	sinkv1 "github.com/picloud/picloud/sdk/proto/sink/v1"
)

// Config is a configuration as the host sends it.
type Config struct {
	JSON  []byte // an object, with secrets filled in
	Reach Reach
}

// Reach says which addresses an instance may connect to: see guard.Config.
type Reach struct {
	Any   bool // all: the configuration is the node owner's own
	Allow string
	Own   []string
}

// Delivery is one item as the host sends it: see Item.
type Delivery struct {
	EventID     string
	Attempt     int
	Type        string
	Time        time.Time
	ContentType string
	Headers     []event.Header
	Data        []byte
}

// Answer is how a delivery went.
type Answer struct {
	Fault  *fault.Fault // nil: it is done
	Status int          // what the receiver said; zero: nothing
	Logs   []Log
}

// MaxData is how much data an item may have.
const MaxData = 8 << 20

// Grace is how long past its end a delivery may take to be answered.
const Grace = 250 * time.Millisecond

// Client is one sink process as the host sees it. Its methods are safe for concurrent use.
type Client struct {
	rpc    sinkv1.SinkClient
	info   Info
	layers []plugin.Layer
	link   *plugin.Link[*sinkv1.Message]
	window chan struct{} // one token for each item that the sink takes at one time

	mu       sync.Mutex
	waiting  map[uint64]chan *sinkv1.Answer
	next     uint64
	instance uint64
}

// Dial opens the session with a sink that serves on conn. Close ends it.
func Dial(ctx context.Context, conn grpc.ClientConnInterface) (*Client, error) {
	c := &Client{rpc: sinkv1.NewSinkClient(conn), waiting: map[uint64]chan *sinkv1.Answer{}}
	soon, stop := context.WithTimeout(ctx, plugin.CallLimit)
	defer stop()
	described, err := c.rpc.Describe(soon, &sinkv1.DescribeRequest{})
	if err != nil {
		return nil, fmt.Errorf("describe: %w", err)
	}
	c.info, c.layers = infoFromWire(described), plugin.LayersFromWire(described.GetLayers())
	c.window = make(chan struct{}, max(1, min(described.GetWindow(), maxWindow)))
	if c.link, err = plugin.Open(soon, c.rpc.Session, frame, messageSize); err != nil {
		return nil, err
	}
	go c.link.Receive(c.handle, nil)
	return c, nil
}

// maxWindow bounds what a sink may ask for.
const maxWindow = 4096

// Info is what the sink said of itself.
func (c *Client) Info() Info { return c.info }

// Layers are the layers of isolation that the process says to have put on itself.
func (c *Client) Layers() []plugin.Layer { return c.layers }

// Lost is closed when the session has ended: the process is gone, or of no use any more.
func (c *Client) Lost() <-chan struct{} { return c.link.Lost() }

// Stuck is never closed: one that is slow with an item is not for others.
func (c *Client) Stuck() <-chan struct{} { return nil }

// Err is why the session ended; nil while it lasts. It wraps plugin.ErrProtocol where the sink broke the contract.
func (c *Client) Err() error { return c.link.Err() }

// Close ends the session and every delivery in it.
func (c *Client) Close() { c.link.Close() }

// Check says what is wrong with a configuration, as a *fault.Fault of kind fault.Invalid.
func (c *Client) Check(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, plugin.CallLimit)
	defer cancel()
	m, err := c.rpc.Check(ctx, configToWire(0, cfg))
	if err != nil {
		return c.broken(err)
	}
	if f := plugin.FaultFromWire(m.GetFault()); f != nil {
		return f
	}
	return nil
}

// Configure makes an instance and returns its number, by which Deliver and Forget name it.
func (c *Client) Configure(ctx context.Context, cfg Config) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, plugin.CallLimit)
	defer cancel()
	c.mu.Lock()
	c.instance++
	n := c.instance
	c.mu.Unlock()
	m, err := c.rpc.Configure(ctx, configToWire(n, cfg))
	if err != nil {
		return 0, c.broken(err)
	}
	if f := plugin.FaultFromWire(m.GetFault()); f != nil {
		return 0, f
	}
	return n, nil
}

// Forget drops an instance. What is under way ends as ever.
func (c *Client) Forget(ctx context.Context, instance uint64) error {
	ctx, cancel := context.WithTimeout(ctx, plugin.CallLimit)
	defer cancel()
	if _, err := c.rpc.Forget(ctx, &sinkv1.ForgetRequest{Instance: instance}); err != nil {
		return c.broken(err)
	}
	return nil
}

// Health asks whether the sink can take items.
func (c *Client) Health(ctx context.Context) error {
	if _, err := c.rpc.Health(ctx, &sinkv1.HealthRequest{}); err != nil {
		return c.broken(err)
	}
	return nil
}

// Drain has the sink refuse new items, with a fault of kind fault.Unavailable, and waits until none is left.
func (c *Client) Drain(ctx context.Context) error {
	if _, err := c.rpc.Drain(ctx, &sinkv1.DrainRequest{}); err != nil {
		return c.broken(err)
	}
	return nil
}

func (c *Client) broken(err error) error {
	return fault.New(fault.Unavailable, fault.Plugin, "the sink %s does not answer: %s", c.info.Name, status.Convert(err).Message())
}

// Deliver sends an item to an instance and waits for the answer, until the deadline that ctx must have and Grace. Where nothing was
// sent the fault is of kind fault.Unavailable.
func (c *Client) Deliver(ctx context.Context, instance uint64, d *Delivery) Answer {
	failed := func(kind fault.Kind, origin fault.Origin, format string, args ...any) Answer {
		return Answer{Fault: fault.New(kind, origin, format, args...)}
	}
	if len(d.Data) > MaxData {
		f := fault.New(fault.Invalid, fault.Caller, "the data has %d bytes, more than a sink takes: %d", len(d.Data), MaxData)
		return Answer{Fault: f}
	}
	select {
	case c.window <- struct{}{}:
		defer func() { <-c.window }()
	case <-ctx.Done():
		return failed(fault.Unavailable, fault.Platform, "the sink %s took no more items in time", c.info.Name)
	case <-c.link.Lost():
		return failed(fault.Unavailable, fault.Plugin, "the sink process ended before the delivery")
	}
	deadline, _ := ctx.Deadline()
	answered := make(chan *sinkv1.Answer, 1)
	c.mu.Lock()
	c.next++
	id := c.next
	c.waiting[id] = answered
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	item := deliveryToWire(instance, d, max(time.Millisecond, time.Until(deadline)))
	if err := c.link.Send(&sinkv1.Message{Id: id, Body: &sinkv1.Message_Item{Item: item}}); err != nil {
		return failed(fault.Unavailable, fault.Plugin, "the sink process ended before the delivery")
	}
	select {
	case m := <-answered:
		return answerFromWire(m)
	case <-c.link.Lost():
		return c.lostAnswer(answered)
	case <-ctx.Done():
	}
	_ = c.link.Send(&sinkv1.Message{Id: id, Body: &sinkv1.Message_Cancel{Cancel: &sinkv1.Cancel{}}}) // lost: seen below
	grace := time.NewTimer(Grace)
	defer grace.Stop()
	var m *sinkv1.Answer
	select {
	case m = <-answered:
	case <-c.link.Lost():
		return c.lostAnswer(answered)
	case <-grace.C:
		select {
		case m = <-answered: // who was held up for long, as on a busy machine, finds both
		default:
			return failed(fault.Deadline, fault.Plugin, "the sink %s did not answer in time", c.info.Name)
		}
	}
	a := answerFromWire(m)
	if ctx.Err() == context.DeadlineExceeded {
		a.Fault = late(a.Fault) // the cancellation may have come before the sink's own deadline
	}
	return a
}

// late is the fault of a delivery that failed after its deadline: what failed for good has, what was never tried was not, and anything
// else ran out of time.
func late(f *fault.Fault) *fault.Fault {
	if f == nil || f.Fatal || f.Kind == fault.Invalid || f.Kind == fault.Unavailable || f.Kind == fault.Deadline {
		return f
	}
	return fault.New(fault.Deadline, fault.Script, "the delivery did not end in time: %v", f)
}

// lostAnswer is the answer of an item whose session has ended. What arrived before the end still counts.
func (c *Client) lostAnswer(answered chan *sinkv1.Answer) Answer {
	select {
	case m := <-answered:
		return answerFromWire(m)
	default:
	}
	f := fault.New(fault.Internal, fault.Plugin, "the sink process ended during the delivery")
	if err := c.Err(); errors.Is(err, plugin.ErrProtocol) {
		f.Detail = err.Error()
	}
	return Answer{Fault: f}
}

// handle takes a message in.
func (c *Client) handle(m *sinkv1.Message) error {
	a := m.GetAnswer()
	if a == nil {
		return errors.New("a message that only the host sends")
	}
	if n := len(a.GetLogs()); n > maxLogs {
		return fmt.Errorf("%d lines of one delivery", n)
	}
	c.mu.Lock()
	answered, known := c.waiting[m.GetId()], m.GetId() != 0 && m.GetId() <= c.next
	delete(c.waiting, m.GetId())
	c.mu.Unlock()
	switch {
	case answered != nil:
		answered <- a
	case !known:
		return errors.New("an answer to nothing")
	}
	return nil
}
