// Package record is what people and programs see of events after the fact: executions, dead letters, and where an entry
// stands. It is read by core/api from the tables that core/outbox fills; nothing on the event's way depends on it.
package record

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/outbox"
)

// Execution is one attempt of one entry.
type Execution struct {
	ID         uuid.UUID // the entry's
	Attempt    int
	Script     uuid.UUID
	ScriptName string // empty: the script was deleted, or see SinkName
	SinkName   string // empty: it went to no sink, or that was deleted
	Version    int    // zero: nothing was started
	Trigger    uuid.UUID
	Kind       outbox.Kind
	Outcome    outbox.Outcome
	Reason     string
	Status     int // of the answer; zero: none
	Depth      int
	EventID    uuid.UUID
	RootID     uuid.UUID
	AcceptedAt time.Time
	StartedAt  time.Time
	FinishedAt time.Time
	Duration   time.Duration
	Error      string
	Fault      string // whose fault it was
}

// ExecutionFilter narrows a list of executions; zero values do not.
type ExecutionFilter struct {
	Script  uuid.UUID
	Outcome outbox.Outcome
}

// Log is one line that an attempt logged.
type Log struct {
	Attempt int             `json:"attempt"`
	Time    time.Time       `json:"time"`
	Level   string          `json:"level"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data"`
}

// DeadLetter is an entry that ended without success. Its id is the entry's.
type DeadLetter struct {
	ID          uuid.UUID
	EventID     uuid.UUID
	Target      uuid.UUID // a script or a sink
	TargetName  string    // of a script; empty: it was deleted, or see SinkName
	SinkName    string    // empty: the target is no sink, or it was deleted
	Trigger     uuid.UUID
	RootID      uuid.UUID
	ReplayOf    uuid.UUID
	Kind        outbox.Kind
	Attempts    int
	MaxAttempts int
	Reason      string
	Error       string
	Fault       string
	Version     int
	AcceptedAt  time.Time
	CreatedAt   time.Time
	ResolvedAt  time.Time // zero: it is open
	Resolution  string
	ReplayedAs  uuid.UUID
	Cause       string // of its group

	Envelope []byte // as encoded by the outbox; nil in lists
	Payload  []byte // likewise
}

// Entry is where an entry stands, or how it ended.
type Entry struct {
	ID          uuid.UUID
	EventID     uuid.UUID
	Script      uuid.UUID
	Kind        outbox.Kind
	Attempt     int // starts so far
	MaxAttempts int // zero once it has ended
	AcceptedAt  time.Time
	Lane        uuid.UUID  // in lists of what has not ended
	Priority    int        // likewise
	Waiting     *Waiting   // nil once it has ended
	Ended       *Execution // the last attempt; nil until then
}

// Waiting is an entry that has not ended.
type Waiting struct {
	State     outbox.State
	RunAt     time.Time
	LastError string
}

// EntryFilter narrows a list of entries that have not ended; zero values do not.
type EntryFilter struct {
	Lane  uuid.UUID
	State *outbox.State
}

// EntryFacts is what the database knows of why an entry has not ended.
type EntryFacts struct {
	Lane      uuid.UUID
	Target    uuid.UUID
	State     outbox.State
	Now       time.Time
	RunAt     time.Time
	Attempt   int
	LastError string
	Cancelled bool
	Gate      string
	GateLimit int
	Holders   []uuid.UUID // entries that hold the gate, up to 20
	Ahead     int         // entries that come before it, in its lane or at its gate; up to 10,000
	Node      string      // that runs it; empty: none does any more
	ExpiresAt time.Time   // zero: never
}

// DeadLetterFilter narrows dead letters; zero values do not. It is stored with a replay.
type DeadLetterFilter struct {
	Open   bool      `json:"open,omitempty"`
	Script uuid.UUID `json:"script,omitzero"`
	Reason string    `json:"reason,omitempty"`
	Cause  string    `json:"cause,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"`
	Text   string    `json:"text,omitempty"` // in the error, in any case
}

// DeadLetterGroup is what dead letters of one cause have in common: what differs is that of the newest.
type DeadLetterGroup struct {
	Cause   string
	Count   int
	First   time.Time
	Last    time.Time
	Reason  string
	Fault   string
	Error   string
	Script  string // name; empty: it was deleted
	Version int
	Newest  uuid.UUID
}

// Replay is dead letters on their way back.
type Replay struct {
	ID            uuid.UUID
	Filter        DeadLetterFilter
	Rate          int // letters a second
	StopOnFailure bool
	State         string // running, done, stopped (at a failure), cancelled
	Total         int    // letters that the filter found when it began
	Replayed      int    // put back so far
	Failed        int    // of those, dead again
	CreatedBy     uuid.UUID
	CreatedAt     time.Time
	EndedAt       *time.Time
}

// Health is how the database stands.
type Health struct {
	OldestTransaction time.Duration // what is dead since then cannot be removed
	DeadRows          int64         // of the outbox
	Entries           int64         // in the outbox, about
	OldestReady       time.Duration // how long the entry that has waited the longest has been ready; zero: none is
	DatabaseBytes     int64
}
