package service

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
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
	RetryAfterMS int64      `json:"retry_after_ms,omitempty"`
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
	queue := snapshot.Queue(c.run.Entry.App, in.Queue)
	if queue == nil {
		return nil, fault.New(fault.NotFound, fault.Script, "there is no queue %q in this app", in.Queue)
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
		id, err := c.send(ctx, entries[i])
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
