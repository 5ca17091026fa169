// Package outbox holds every event that waits for its target. An entry is written in the transaction of its cause (or by
// a group-committing writer, for events from outside), is owned by one node while it runs, and leaves the table in the
// transaction that records how it ended.
//
// It stands between those who accept events (core/ingress, core/source, core/service) and core/dispatcher.
package outbox

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/retry"
)

// State is where an entry stands. A finished entry has none: its row is gone and its record is in executions.
type State int16

// The states and who moves an entry in and out.
const (
	// Scheduled waits for run_at. In: Append with a later run_at, a retry. Out: the dispatcher's promotion.
	Scheduled State = 0
	// Ready may be claimed. In: Append without a free slot, promotion, the sweep of a dead owner. Out: a claim.
	Ready State = 1
	// Running belongs to the node epoch in owner. In: born claimed, a claim. Out: a settlement by the same owner and
	// attempt, or the sweep once the epoch is dead.
	Running State = 2
	// Blocked waits at a gate. In: Append behind the head of a key. Out: the settlement of the one before.
	Blocked State = 3
)

// Kind is what made the entry. A node claims only the kinds it knows, so old and new versions run side by side.
type Kind int16

// The kinds.
const (
	KindHTTP   Kind = 1 // a request to a route
	KindInvoke Kind = 2 // a call by name: control API, CLI, another script
	KindReplay Kind = 3 // a dead letter put back
)

// Kinds are all that this version can run.
var Kinds = []Kind{KindHTTP, KindInvoke, KindReplay}

func (k Kind) String() string {
	switch k {
	case KindHTTP:
		return "http"
	case KindInvoke:
		return "invoke"
	case KindReplay:
		return "replay"
	}
	return "unknown"
}

// TargetScript is the target kind of a script; sinks follow.
const TargetScript int16 = 1

// MaxDepth is how many events may cause one another before the chain counts as a loop.
const MaxDepth = 8

// Conditions of a write that callers act on.
var (
	// ErrFenced says that this node may not write: its lease is in doubt or lost. Nothing was accepted.
	ErrFenced = errors.New("the node has lost touch with its database")
	// ErrTooDeep says that the event is MaxDepth events away from its first cause. Nothing was accepted.
	ErrTooDeep = errors.New("the chain of events is too deep")
	// ErrClosed says that the outbox is shutting down. Nothing was accepted.
	ErrClosed = errors.New("the outbox is closed")
)

// Entry is one delivery of one event to one target: the unit of dispatch. Zero ids mean none.
type Entry struct {
	ID         uuid.UUID
	EventID    uuid.UUID
	App        uuid.UUID
	Lane       uuid.UUID // the script, queue or trigger whose limits and pause apply
	Target     uuid.UUID
	TargetKind int16
	Trigger    uuid.UUID // the route or trigger that asked for it
	RootID     uuid.UUID // the first entry of the chain
	ReplayOf   uuid.UUID
	HandlerFor uuid.UUID
	Principal  uuid.UUID
	ReplyTo    uuid.UUID // a caller waits in the inbox of the node that accepted it

	RunAt      time.Time
	AcceptedAt time.Time
	ExpiresAt  time.Time
	Timeout    time.Duration

	Kind         Kind
	State        State
	Priority     int16
	Attempt      int // starts counted so far, this one included while it runs
	MaxAttempts  int
	Depth        int
	NodeLosses   int
	EngineLosses int
	Backoff      *retry.Policy // nil: retry.Default
	Gates        []string
	LastError    string

	Envelope []byte // event.Envelope, encoded
	Payload  []byte // the event's data
}

// Sync reports whether a caller waits for the reply: such an entry runs at most once.
func (e *Entry) Sync() bool { return e.ReplyTo != uuid.Nil }
