// Package source is the contract between the platform and a plugin that brings events in: from a mail server's clients, a broker, a feed.
//
// A plugin author implements Source and calls Serve. The host starts one process for all apps of a node, starts an instance of it for each
// configuration that somebody has made, and takes in what it emits; protobuf and gRPC stay inside this package.
package source

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/picloud/picloud/sdk/event"
)

// Source brings events in. Calls may overlap.
type Source interface {
	// Info says what the source is. It is called before anything else and must not block.
	Info() Info
	// Check says what is wrong with a configuration, a JSON object with secrets filled in; nothing: it is right. It reaches nothing
	// outside and returns at once.
	Check(config []byte) []Problem
	// Run is one instance: it emits what happens, from setting.Cursor on, until ctx ends, and returns when nothing of it is left. Whatever
	// it returns before is why it cannot go on; the host starts it again after a while.
	Run(ctx context.Context, s Setting, out Emitter) error
}

// Info describes a source.
type Info struct {
	Name    string // "smtp": the second half of the plugin's name
	Version string // of the source
	// Secrets are the fields of its configuration that hold a secret, or a list of such. Only there, and in no other way, can an app
	// give them: as references to its secrets, which the host fills in. Other fields may be given so.
	Secrets []string
}

// Problem is what is wrong with one field of a configuration. An empty field is the configuration as a whole.
type Problem struct{ Field, Message string }

// Setting is what an instance runs with.
type Setting struct {
	Config []byte // a JSON object that Check has nothing against, with secrets filled in
	Cursor string // of the last batch that was taken in; empty: there was none, or the source has no cursors
}

// Event is one thing that happened.
type Event struct {
	ID          string    // names it, the same whenever it comes again; 1 to MaxName bytes
	Type        string    // what happened: "order.created"; 1 to MaxName bytes
	Time        time.Time // zero: now
	Subject     string    // what it is about; may be empty; up to MaxSubject bytes
	ContentType string    // of Data; empty: application/json
	Data        []byte
	Attributes  []event.Header // what is known beside the data; scripts read them as headers
}

// Batch is what is taken in together, or not at all.
type Batch struct {
	Events []Event // 1 to MaxEvents
	// Cursor is where to go on after these events, up to MaxCursor bytes. With it, every event is taken in exactly once, whatever dies: it
	// is kept in the transaction that takes the events in. Empty: the source cannot go back. Then the ids of events tell for a day what
	// has come before.
	Cursor string
}

// Bounds of what is emitted.
const (
	MaxEvents     = 1000
	MaxBytes      = 8 << 20 // of a batch: see Batch.Size
	MaxName       = 200
	MaxSubject    = 1024
	MaxCursor     = 64 << 10
	MaxAttributes = 100
)

// Emitter takes what an instance emits. It is safe for concurrent use. A batch with a cursor waits until those before it are answered, also
// where whoever offered one of them has given up.
type Emitter interface {
	// Offer has a batch taken in and returns when that is done: nil says that the events are safe. A *Refused says that they were not
	// taken in. Any other error, which ctx or the end of the instance brings, leaves it open. It blocks while the host has no room.
	Offer(ctx context.Context, b Batch) error
	// Emit offers a batch as often as it takes. Its errors leave open whether the batch was taken in.
	Emit(ctx context.Context, b Batch) error
	// Log writes a line for whoever runs the node, up to 100 in ten seconds; more are dropped, and counted. Level is debug, info, warn or
	// error.
	Log(level, format string, args ...any)
}

// Refused says that a batch was not taken in, and when it may be.
type Refused struct {
	After  time.Duration
	Reason string
}

func (r *Refused) Error() string {
	return fmt.Sprintf("not taken in: %s; again after %s", r.Reason, r.After)
}

// Size is what a batch counts: the lengths of its texts and data.
func (b *Batch) Size() int {
	n := len(b.Cursor)
	for i := range b.Events {
		e := &b.Events[i]
		n += len(e.ID) + len(e.Type) + len(e.Subject) + len(e.ContentType) + len(e.Data)
		for _, a := range e.Attributes {
			n += len(a.Name) + len(a.Value)
		}
	}
	return n
}

// Validate says why a batch cannot be taken in by anybody.
func (b *Batch) Validate() error {
	switch size := b.Size(); {
	case len(b.Events) == 0 || len(b.Events) > MaxEvents:
		return fmt.Errorf("a batch of %d events: it has 1 to %d", len(b.Events), MaxEvents)
	case size > MaxBytes:
		return fmt.Errorf("a batch of %d bytes, more than %d", size, MaxBytes)
	case len(b.Cursor) > MaxCursor:
		return fmt.Errorf("a cursor of %d bytes, more than %d", len(b.Cursor), MaxCursor)
	}
	for i := range b.Events {
		e := &b.Events[i]
		switch {
		case !name(e.ID):
			return fmt.Errorf("event %d has the id %.50q: it has 1 to %d bytes of UTF-8 without NUL", i, e.ID, MaxName)
		case !name(e.Type):
			return fmt.Errorf("event %d is of type %.50q: it has 1 to %d bytes of UTF-8 without NUL", i, e.Type, MaxName)
		case len(e.Subject) > MaxSubject:
			return fmt.Errorf("event %d has a subject of %d bytes, more than %d", i, len(e.Subject), MaxSubject)
		case len(e.Attributes) > MaxAttributes:
			return fmt.Errorf("event %d has %d attributes, more than %d", i, len(e.Attributes), MaxAttributes)
		}
	}
	return nil
}

func name(s string) bool {
	return s != "" && len(s) <= MaxName && utf8.ValidString(s) && !strings.Contains(s, "\x00")
}
