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
	ScriptName string // empty: the script was deleted
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
	Target      uuid.UUID // a script
	TargetName  string    // empty: the script was deleted
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
	GateHeld  bool
	GateLimit int
	Holders   []uuid.UUID // entries that hold the gate, up to 20
	Ahead     int         // entries that come before it, in its lane or at its gate; up to 10,000
	Owner     int64
	OwnerLive bool
}
