package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/fault"
)

// maxMessages is how many one call may send.
const maxMessages = 100

// sent is how one message of a call went: its id, or why it was not accepted.
type sent struct {
	ID           uuid.UUID  `json:"id,omitzero"`
	Code         fault.Kind `json:"code,omitempty"`
	Error        string     `json:"error,omitempty"`
	RetryAfterMS int64      `json:"retry_after_ms,omitzero"`
}

func (s *sent) refuse(err error) {
	f := fault.From(err)
	s.Code, s.Error, s.RetryAfterMS = f.Kind, f.Message, f.RetryAfter.Milliseconds()
}

// queueSend puts messages into a queue of the app. They are written side by side, so that one commit can hold many.
func (c *call) queueSend(ctx context.Context, args []byte) (any, error) {
	var in struct {
		Queue    string    `json:"queue"`
		Messages []message `json:"messages"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	if n := len(in.Messages); n > maxMessages {
		return nil, invalid("%d messages at once are more than %d: send them with several calls", n, maxMessages)
	}
	if err := c.mayCause(); err != nil {
		return nil, err
	}
	snapshot := c.snapshot()
	queue, err := c.queue(snapshot, in.Queue)
	if err != nil {
		return nil, err
	}
	lane := snapshot.Lane(queue.ID)
	if lane == nil {
		return nil, fault.New(fault.NotFound, fault.Script, "the script of the queue %q does not exist", in.Queue)
	}
	if err := runnable(lane.Script); err != nil {
		return nil, err
	}
	entries := make([]*outbox.Entry, len(in.Messages))
	for i := range in.Messages {
		var err error
		entries[i], err = c.entry(lane, outbox.KindQueue, &in.Messages[i], trigger.Message(in.Queue, ""))
		if f := (*fault.Fault)(nil); errors.As(err, &f) && len(entries) > 1 {
			return nil, fault.New(f.Kind, f.Origin, "message %d, and so none was sent: %s", i, f.Message)
		} else if err != nil {
			return nil, err
		}
	}
	if c.run.Unit != nil {
		return c.stageMessages(ctx, entries)
	}
	out := make([]sent, len(entries))
	var all sync.WaitGroup
	for _, sequence := range sequences(entries) {
		all.Go(func() { c.sendSequence(ctx, sequence, entries, out) })
	}
	all.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return struct {
		Messages []sent `json:"messages"`
	}{out}, nil
}

// stageMessages stages entries, all or none.
func (c *call) stageMessages(ctx context.Context, entries []*outbox.Entry) (any, error) {
	out, groups := make([]sent, len(entries)), make([][]*outbox.Entry, len(entries))
	for i, e := range entries {
		groups[i] = []*outbox.Entry{e}
	}
	ids, err := c.stage(ctx, groups...)
	if err != nil {
		return nil, err
	}
	for i, id := range ids {
		out[i].ID = id
	}
	return struct {
		Messages []sent `json:"messages"`
	}{out}, nil
}

// sequences divides entries by what they must be written after: those of one ordering key or one debounce key follow
// each other, all others are alone. The results are indices, in the order of entries.
func sequences(entries []*outbox.Entry) (out [][]int) {
	known := map[string]int{}
	for i, e := range entries {
		key := ""
		switch {
		case e.Ordered():
			key = e.Gate
		case e.Debounce != "":
			key = "debounce/" + e.Debounce
		}
		at, follows := known[key]
		switch {
		case follows:
			out[at] = append(out[at], i)
			continue
		case key != "":
			known[key] = len(out)
		}
		out = append(out, []int{i})
	}
	return out
}

// sendSequence writes entries one after the other, and none after one that was not accepted.
func (c *call) sendSequence(ctx context.Context, sequence []int, entries []*outbox.Entry, out []sent) {
	for n, i := range sequence {
		id, err := c.sendBeside(ctx, entries[i])
		if err == nil {
			out[i].ID = id
			continue
		}
		out[i].refuse(err)
		for _, later := range sequence[n+1:] {
			out[later] = out[i]
			out[later].Error = fmt.Sprintf("message %d with the same key was not accepted: %s", i, out[i].Error)
		}
		return
	}
}

// sendBeside is send in a goroutine of its own.
func (c *call) sendBeside(ctx context.Context, e *outbox.Entry) (_ uuid.UUID, err error) {
	defer c.contain(&c.run, "queue.send", &err)
	return c.send(ctx, e)
}

// Queues are what waits for scripts.
type Queues interface {
	// Depth returns how many messages of a queue wait and run, of each state up to 10,000, and how long the oldest has waited.
	Depth(ctx context.Context, app, queue uuid.UUID) (waiting, running int, oldest time.Duration, err error)
	// Purge ends up to limit messages of a queue that wait, under the owner's epoch, and returns how many.
	Purge(ctx context.Context, owner int64, app, queue uuid.UUID, limit int) (int, error)
}

// How many messages one call purges: in transactions of a size that keeps nobody waiting.
const (
	maxPurged = 10_000
	purgeStep = 500
)

func (c *call) queue(snapshot *tenant.Snapshot, name string) (*tenant.Queue, error) {
	if q := snapshot.Queue(c.run.Entry.App, name); q != nil {
		return q, nil
	}
	return nil, fault.New(fault.NotFound, fault.Script, "there is no queue %q in this app", name)
}

// named reads the arguments of a call that has only the queue.
func (c *call) named(args []byte) (*tenant.Queue, error) {
	var in struct {
		Queue string `json:"queue"`
	}
	if err := decode(args, &in); err != nil {
		return nil, err
	}
	return c.queue(c.snapshot(), in.Queue)
}

func (c *call) queueDepth(ctx context.Context, args []byte) (any, error) {
	queue, err := c.named(args)
	if err != nil {
		return nil, err
	}
	waiting, running, oldest, err := c.queues.Depth(ctx, queue.App, queue.ID)
	if err != nil {
		return nil, c.dataRefusal(ctx, err)
	}
	return struct {
		Waiting int   `json:"waiting"`
		Running int   `json:"running"`
		Oldest  int64 `json:"oldest_age_ms"`
	}{waiting, running, oldest.Milliseconds()}, nil
}

// queuePurge ends the messages that wait, with a record that says so. Those that run are left.
func (c *call) queuePurge(ctx context.Context, args []byte) (any, error) {
	queue, err := c.named(args)
	if err != nil {
		return nil, err
	}
	purged, more := 0, true
	for more && purged < maxPurged {
		if err := c.outbox.Hold(ctx, c.run.Entry.Owner); err != nil {
			return nil, err
		}
		n, err := c.queues.Purge(ctx, c.run.Entry.Owner, queue.App, queue.ID, purgeStep)
		if err != nil {
			return nil, c.dataRefusal(ctx, err)
		}
		purged += n
		more = n == purgeStep
	}
	return struct {
		Purged int  `json:"purged"`
		More   bool `json:"more"`
	}{purged, more}, nil
}
