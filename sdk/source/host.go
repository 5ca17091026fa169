package source

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/plugin"
	sourcev1 "github.com/picloud/picloud/sdk/proto/source/v1"
)

// Client is one source process as the host sees it. Its methods are safe for concurrent use.
type Client struct {
	rpc    sourcev1.SourceClient
	info   Info
	layers []plugin.Layer
	link   *plugin.Link[*sourcev1.Message]

	mu        sync.Mutex
	instances map[uint64]*Instance
	last      uint64
	lost      *fault.Fault // why the session ended; nil while it lasts
}

// Dial opens the session with a source that serves on conn. Close ends it.
func Dial(ctx context.Context, conn grpc.ClientConnInterface) (*Client, error) {
	c := &Client{rpc: sourcev1.NewSourceClient(conn), instances: map[uint64]*Instance{}}
	soon, stop := context.WithTimeout(ctx, plugin.CallLimit)
	defer stop()
	described, err := c.rpc.Describe(soon, &sourcev1.DescribeRequest{})
	if err != nil {
		return nil, fmt.Errorf("describe: %w", err)
	}
	c.info, c.layers = infoFromWire(described), plugin.LayersFromWire(described.GetLayers())
	if c.link, err = plugin.Open(soon, c.rpc.Session, frame, messageSize); err != nil {
		return nil, err
	}
	go c.link.Receive(c.handle, c.end)
	return c, nil
}

// Info is what the source said of itself.
func (c *Client) Info() Info { return c.info }

// Layers are the layers of isolation that the process says to have put on itself.
func (c *Client) Layers() []plugin.Layer { return c.layers }

// Lost is closed when the session has ended: the process is gone, or of no use any more.
func (c *Client) Lost() <-chan struct{} { return c.link.Lost() }

// Stuck is never closed: what ignores its stop is left alone.
func (c *Client) Stuck() <-chan struct{} { return nil }

// Err is why the session ended; nil while it lasts. It wraps plugin.ErrProtocol where the source broke the contract.
func (c *Client) Err() error { return c.link.Err() }

// Close ends the session and every instance in it.
func (c *Client) Close() { c.link.Close() }

// Check says what is wrong with a configuration; nothing: it is right. An error says that nobody knows.
func (c *Client) Check(ctx context.Context, config []byte) ([]Problem, error) {
	ctx, cancel := context.WithTimeout(ctx, plugin.CallLimit)
	defer cancel()
	m, err := c.rpc.Check(ctx, &sourcev1.CheckRequest{Config: config})
	if err != nil {
		return nil, fault.New(fault.Unavailable, fault.Plugin, "the source %s does not answer: %s", c.info.Name, status.Convert(err).Message())
	}
	return problemsFromWire(m), nil
}

// Instance is an instance that was started. Its methods are safe for concurrent use.
type Instance struct {
	client *Client
	number uint64
	log    func(level, message string)

	batches chan *Incoming // as many as there is credit for
	ended   chan struct{}  // closed when there will be no more

	mu     sync.Mutex
	credit int64             // that the source has
	last   uint64            // batch
	open   map[uint64]string // batches without an answer, and their cursors
	err    error             // read it after ended
}

// Incoming is a batch that waits for its answer, which is Ack or Nack, once.
type Incoming struct {
	Batch
	instance *Instance
	id       uint64
}

// Credit is how many batches of an instance may be without an answer.
const Credit = 4

// Start begins an instance. log is called with what it logs, one line after the other, and must not block.
func (c *Client) Start(s Setting, log func(level, message string)) (*Instance, error) {
	c.mu.Lock()
	c.last++
	i := &Instance{
		client: c, number: c.last, log: log, batches: make(chan *Incoming, Credit), ended: make(chan struct{}), open: map[uint64]string{},
	}
	if c.lost != nil {
		c.mu.Unlock()
		return nil, c.lost
	}
	c.instances[i.number] = i
	c.mu.Unlock()
	i.send(&sourcev1.Message{Body: &sourcev1.Message_Start{Start: startToWire(s)}})
	i.grant(Credit)
	return i, nil
}

func (i *Instance) send(m *sourcev1.Message) {
	m.Instance = i.number
	_ = i.client.link.Send(m) // lost: every instance is told
}

// grant allows n batches more. There is room for Credit of them: more would block the session.
func (i *Instance) grant(n int64) {
	i.mu.Lock()
	i.credit += n
	i.mu.Unlock()
	i.send(&sourcev1.Message{Body: &sourcev1.Message_Credit{Credit: &sourcev1.Credit{Batches: n}}})
}

// Next returns the next batch. It blocks until there is one, or ctx ends, or the instance: then the error says why, as a fault, and is
// ErrStopped after Stop.
func (i *Instance) Next(ctx context.Context) (*Incoming, error) {
	select {
	case b := <-i.batches:
		return b, nil
	default:
	}
	select {
	case b := <-i.batches:
		return b, nil
	case <-i.ended:
		return nil, i.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// ErrStopped says that an instance has ended since it was stopped.
var ErrStopped = errors.New("the instance was stopped")

// Stop asks the instance to end. Ended is closed when it has.
func (i *Instance) Stop() {
	i.send(&sourcev1.Message{Body: &sourcev1.Message_Stop{Stop: &sourcev1.Stop{}}})
}

// Ended is closed when the instance has ended.
func (i *Instance) Ended() <-chan struct{} { return i.ended }

// Ack says that the batch is taken in, and gives credit for another.
func (b *Incoming) Ack() {
	b.answer(&sourcev1.Message{Body: &sourcev1.Message_Ack{Ack: &sourcev1.Ack{Batch: b.id}}})
}

// Nack says that the batch was not taken in, and gives credit for another.
func (b *Incoming) Nack(after time.Duration, reason string) {
	b.answer(&sourcev1.Message{Body: &sourcev1.Message_Nack{Nack: &sourcev1.Nack{
		Batch: b.id, RetryAfterMs: after.Milliseconds(), Reason: plugin.WireText(reason),
	}}})
}

func (b *Incoming) answer(m *sourcev1.Message) {
	i := b.instance
	i.mu.Lock()
	_, open := i.open[b.id]
	delete(i.open, b.id)
	i.mu.Unlock()
	if open {
		i.send(m)
		i.grant(1)
	}
}

// end ends every instance with the session.
func (c *Client) end(err error) {
	lost := fault.New(fault.Unavailable, fault.Plugin, "the source process ended")
	if errors.Is(err, plugin.ErrProtocol) {
		lost.Detail = err.Error()
	}
	c.mu.Lock()
	c.lost = lost
	all := c.instances
	c.instances = map[uint64]*Instance{}
	c.mu.Unlock()
	for _, i := range all {
		i.end(lost)
	}
}

func (c *Client) handle(m *sourcev1.Message) error {
	c.mu.Lock()
	i, known := c.instances[m.GetInstance()], m.GetInstance() != 0 && m.GetInstance() <= c.last
	c.mu.Unlock()
	if !known {
		return errors.New("a message of an instance that was not started")
	}
	if i == nil {
		return nil // it has ended
	}
	switch b := m.GetBody().(type) {
	case *sourcev1.Message_Batch:
		return i.take(b.Batch)
	case *sourcev1.Message_Ended:
		c.mu.Lock()
		delete(c.instances, m.GetInstance())
		c.mu.Unlock()
		if f := plugin.FaultFromWire(b.Ended.GetFault()); f != nil {
			i.end(f)
		} else {
			i.end(ErrStopped)
		}
	case *sourcev1.Message_Log:
		if len(b.Log.GetMessage()) > maxLogText {
			return errors.New("a line that is too long")
		}
		i.log(b.Log.GetLevel(), string(b.Log.GetMessage()))
	default:
		return errors.New("a message that only the host sends")
	}
	return nil
}

func (i *Instance) end(err error) {
	i.err = err
	close(i.ended)
}

// take queues a batch, for which there is room while the source keeps to its credit.
func (i *Instance) take(m *sourcev1.Batch) error {
	b := &Incoming{Batch: batchFromWire(m), instance: i, id: m.GetId()}
	if err := b.Validate(); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.credit == 0 {
		return errors.New("a batch without credit")
	}
	if b.id != i.last+1 {
		return fmt.Errorf("batch %d after %d", b.id, i.last)
	}
	for _, cursor := range i.open {
		if cursor != "" || b.Cursor != "" {
			return errors.New("a batch with a cursor beside another")
		}
	}
	i.credit--
	i.last = b.id
	i.open[b.id] = b.Cursor
	i.batches <- b
	return nil
}
