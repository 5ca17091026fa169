// Package sink is the contract between the platform and a plugin that delivers outward: to a URL, a mail server, a broker.
//
// A plugin author implements Sink and calls Serve. The host starts one process for all apps of a node, opens an instance for each
// configuration that somebody has made, and sends it items over one stream; protobuf and gRPC stay inside this package.
package sink

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/picloud/picloud/sdk/event"
	"github.com/picloud/picloud/sdk/fault"
	"github.com/picloud/picloud/sdk/guard"
)

// Sink delivers outward. Calls may overlap.
type Sink interface {
	// Info says what the sink is. It is called before anything else and must not block.
	Info() Info
	// Open makes an instance for a configuration. It reaches nothing outside and returns at once: it is also called, and what it
	// returns closed again, to see whether a configuration is right. A *fault.Fault of kind fault.Invalid says what is wrong with it.
	Open(s Setting) (Instance, error)
}

// Info describes a sink.
type Info struct {
	Name    string // "http": the second half of the plugin's name
	Version string // of the sink
	// Secrets are the fields of its configuration that hold a secret, or a list of such. Only there, and in no other way, can an app
	// give them: as references to its secrets, which the host fills in. Other fields may be given so.
	Secrets []string
}

// Setting is what an instance is made of.
type Setting struct {
	Config []byte // a JSON object, with secrets filled in
	// Guard makes the guard of all connections to the ports that are the sink's business; nil where the configuration is the node
	// owner's own, and may lead anywhere.
	Guard func(ports ...uint16) *guard.Guard
}

// Instance delivers items of one configuration.
type Instance interface {
	// Deliver answers each of the items, of which there are between one and Batch: what was queued when it could be called. It
	// returns when all are answered; those that are not count as failed by the sink. Up to Parallel calls overlap.
	Deliver(items []*Item)
	// Bounds says how many items Deliver takes at one time, and how many calls of it there may be. Less than 1 counts as 1.
	Bounds() (batch, parallel int)
	// Close ends what is kept between deliveries. There is none under way, and none follows.
	Close()
}

// MaxBatch is how many items Deliver can be given.
const MaxBatch = 32

// Item is one event to deliver, in one attempt.
type Item struct {
	EventID     string // the same in all attempts, for the receiver to know it by
	Attempt     int    // 1-based
	Type        string // what happened; may be empty
	Time        time.Time
	ContentType string
	Headers     []event.Header // to be said beside the data, where there is a place for that
	Data        []byte

	ctx    context.Context
	send   func(answer)
	mu     sync.Mutex
	logs   []Log
	answer bool
}

// Log is one line about a delivery. Level is debug, info, warn or error.
type Log struct {
	Time    time.Time
	Level   string
	Message string
}

// answer is how an item went.
type answer struct {
	status int
	fault  *fault.Fault
	logs   []Log
}

// Limits of what is logged of one delivery.
const (
	maxLogs    = 100
	maxLogText = 8 << 10
)

// Context ends at the item's deadline, or when nobody waits for its answer any more.
func (i *Item) Context() context.Context { return i.ctx }

// Log writes a line for whoever looks at the delivery.
func (i *Item) Log(level, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.logs) == maxLogs || i.answer {
		return
	}
	i.logs = append(i.logs, Log{Time: time.Now(), Level: level, Message: fault.Cut(text, maxLogText)})
}

// Answer says how it went. nil is done; a *fault.Fault of kind fault.Invalid, or a fatal one, failed for good; any other error means
// that it is tried again, where it is a fault after its RetryAfter, and counts as an attempt. status is what the receiver said, as a number of its protocol;
// zero: it said nothing. Only the first answer counts.
func (i *Item) Answer(status int, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.answer {
		return
	}
	i.answer = true
	f := charged(fault.From(err))
	if i.ctx.Err() == context.DeadlineExceeded {
		f = late(f)
	}
	i.send(answer{status, f, i.logs})
}

// charged makes an error one of an attempt that was made. Unavailable says that none was, and Cancelled that the host has given it up: a
// sink that passes on what it was told must not have the item tried again without end.
func charged(f *fault.Fault) *fault.Fault {
	if f == nil || f.Kind != fault.Unavailable && f.Kind != fault.Cancelled && f.Kind != fault.EngineLost {
		return f
	}
	c := *f
	c.Kind = fault.ScriptError
	return &c
}

// refuse answers an item that nothing was done for.
func (i *Item) refuse(format string, args ...any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = true
	i.send(answer{fault: fault.New(fault.Unavailable, fault.Platform, format, args...)})
}
