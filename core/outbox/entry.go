// Package outbox holds every event that waits for its target. An entry is written in the transaction of its cause (or by
// a group-committing writer, for events from outside), is owned by one node while it runs, and leaves the table in the
// transaction that records how it ended.
//
// It stands between those who accept events (core/ingress, core/source, core/service) and core/dispatcher.
package outbox

import (
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/sdk/event"
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
	// claim, or the sweep once the epoch is dead.
	Running State = 2
	// Blocked waits at a gate. In: Append behind the head of a key. Out: the settlement of the one before.
	Blocked State = 3
)

// Kind is what made the entry. A node claims only the kinds it knows, so old and new versions run side by side.
type Kind int16

// The kinds.
const (
	KindHTTP   Kind = 1  // a request to a route
	KindInvoke Kind = 2  // a call by name: control API, CLI, another script
	KindReplay Kind = 3  // a dead letter put back
	KindQueue  Kind = 4  // a message of a queue
	KindLetter Kind = 5  // a dead letter, brought to its handler
	KindKV     Kind = 6  // a change of a key
	KindDocs   Kind = 7  // a change of a document
	KindFiles  Kind = 8  // a change of a file
	KindPubSub Kind = 9  // a message that was published
	KindCron   Kind = 10 // a time that has come
	KindHook   Kind = 11 // a signed request of another service
	KindApp    Kind = 12 // the app was deployed, or a script of it or a delivery has failed
	KindSink   Kind = 20 // a message of a script to a sink, by e-mail too
	KindSource Kind = 21 // an event of a source
	KindEmail  Kind = 22 // a message of e-mail that came in
)

// Kinds are all that this version can run.
var Kinds = []Kind{
	KindHTTP, KindInvoke, KindReplay, KindQueue, KindLetter, KindKV, KindDocs, KindFiles, KindPubSub, KindCron, KindHook,
	KindApp, KindSink, KindSource, KindEmail,
}

func (k Kind) String() string {
	switch k {
	case KindHTTP:
		return "http"
	case KindInvoke:
		return "invoke"
	case KindReplay:
		return "replay"
	case KindQueue:
		return "queue"
	case KindLetter:
		return "dead_letter"
	case KindKV:
		return "kv"
	case KindDocs:
		return "docs"
	case KindFiles:
		return "files"
	case KindPubSub:
		return "pubsub"
	case KindCron:
		return "cron"
	case KindHook:
		return "webhook"
	case KindApp:
		return "app"
	case KindSource:
		return "source"
	case KindEmail:
		return "email"
	case KindSink:
		return "sink"
	}
	return "unknown"
}

// The kinds of targets.
const (
	TargetScript int16 = 1
	TargetSink   int16 = 2
)

// MaxDepth is how many events may cause one another before the chain counts as a loop, and MaxRootEvents how many one
// first cause may lead to.
const (
	MaxDepth      = 8
	MaxRootEvents = 10_000
)

// Conditions of a write that callers act on.
var (
	// ErrFenced says that this node may not write: its lease is in doubt or lost. Nothing was accepted.
	ErrFenced = errors.New("the node has lost touch with its database")
	// ErrUnknown says that the node lost touch with its database while it wrote, or had no answer from it for RepeatFor: the
	// entry may have been accepted, and then runs. Asking again under the same idempotency key is safe.
	ErrUnknown = errors.New("it is not known whether it was accepted: the node has lost touch with its database")
	// ErrTooDeep says that the event is MaxDepth events away from its first cause. Nothing was accepted.
	ErrTooDeep = errors.New("the chain of events is too deep")
	// ErrBudget says that the first cause of the event has led to MaxRootEvents events already. Nothing was accepted.
	ErrBudget = errors.New("the first cause of this event has led to too many events")
	// ErrKeyReused says that the idempotency key was given before, with another request. Nothing was accepted.
	ErrKeyReused = errors.New("the idempotency key was used for another request")
	// ErrClosed says that the outbox is shutting down. Nothing was accepted.
	ErrClosed = errors.New("the outbox is closed")
)

// Overloaded says that an app has more waiting than it may. Nothing was accepted.
type Overloaded struct {
	Message    string
	RetryAfter time.Duration
}

func (o *Overloaded) Error() string { return o.Message }

// Duplicate says that the same request was accepted before under its idempotency key. Nothing was accepted now.
type Duplicate struct {
	Entry uuid.UUID // what it was accepted as
}

func (d *Duplicate) Error() string { return "the request was accepted before, as " + d.Entry.String() }

// Idempotency makes a request that is sent again the same request, for a day.
type Idempotency struct {
	Scope uuid.UUID // the route, queue or script that it was given to
	Key   string
	Hash  []byte // of all that makes the request what it is
}

// Answer is what a run answered, or the fault that ended it, kept for whoever asks later.
type Answer struct {
	Status  int
	Headers []event.Header
	Body    []byte
	Kind    string // of the fault; empty: there was none
	Error   string
}

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

	RunAt      time.Time     // zero: Delay after the write, by the database's clock
	Delay      time.Duration // where RunAt is zero
	AcceptedAt time.Time
	ExpiresIn  time.Duration // it does not start later than this after the write; zero: no matter when
	Timeout    time.Duration

	Kind         Kind
	State        State
	Priority     int16
	Attempt      int  // starts counted so far, this one included while it runs
	Claims       int  // how often it was claimed: with Owner, the token of a claim
	Retry        bool // it was tried before, or is put back with others: it goes behind what is fresh
	MaxAttempts  int
	Depth        int
	NodeLosses   int
	EngineLosses int
	Backoff      *retry.Policy // nil: retry.Default

	// Gate is the key of the gate that the entry passes, made by OrderGate or LimitGate; empty: none. GateLimit entries
	// may be through at one time. An ordering gate is held until the entry is final, others while it is due.
	Gate      string
	GateLimit int
	RateKey   string // has a token bucket of its own within the lane
	// Debounce replaces an entry of the same lane and key that is not due yet. Its run_at is the later of the two, at most
	// DebounceMax after the first was accepted.
	Debounce    string
	DebounceFor time.Duration
	DebounceMax time.Duration
	DebouncedAt time.Time // when the first was accepted that this one stands for
	// A batch holds the entry back until BatchSize of its lane wait or the first of them has waited for BatchWindow.
	BatchSize   int
	BatchWindow time.Duration
	KeepAnswer  bool // the answer, or why there is none, is kept for a day
	Idempotency *Idempotency
	Owner       int64 // the epoch that runs it
	Expired     bool  // a claim found that its time is over
	Cancelled   bool  // a claim found that somebody wants it stopped

	Envelope []byte // event.Envelope, encoded
	Payload  []byte // the event's data
}

// AcceptedAt is when the entry of an id was accepted, to the clock of the node that did it: ids are of version 7 (RFC 9562).
func AcceptedAt(id uuid.UUID) time.Time {
	sec, nsec := id.Time().UnixTime()
	return time.Unix(sec, nsec)
}

// Keyed reports whether the entry is written beside other rows, which have to be locked first.
func (e *Entry) Keyed() bool {
	return e.Gate != "" || e.Debounce != "" || e.BatchSize > 0 || e.Idempotency != nil || e.Depth > 0
}

// orderPrefix marks gates that are held until the entry is final.
const orderPrefix = "order/"

// OrderGate is the gate of an ordering key, which belongs to the app.
func OrderGate(key string) string { return orderPrefix + key }

// LimitGate is the gate of a concurrency key, which belongs to the lane.
func LimitGate(lane uuid.UUID, key string) string { return "limit/" + lane.String() + "/" + key }

// Ordered reports whether the entry passes an ordering gate.
func (e *Entry) Ordered() bool { return strings.HasPrefix(e.Gate, orderPrefix) }

// Sync reports whether a caller waits for the reply: such an entry runs at most once.
func (e *Entry) Sync() bool { return e.ReplyTo != uuid.Nil }

// Detach makes a sync entry one that nobody waits for and whose answer is kept, as its row is already.
func (e *Entry) Detach() { e.ReplyTo, e.KeepAnswer = uuid.Nil, true }

// LaneKey names the ready entries of a lane that are fresh, or those that are not.
type LaneKey struct {
	App, Lane uuid.UUID
	Retry     bool
}

// Quota is how many of those may be claimed.
type Quota struct {
	LaneKey
	Count int
}
