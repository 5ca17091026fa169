package tenant

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Source is where events of an app come from: a configuration of a plugin of that kind.
type Source struct {
	ID      uuid.UUID
	App     uuid.UUID
	Name    string
	Kind    string          // "smtp": the plugin is source/smtp
	Version int             // counts changes, from 1
	Config  json.RawMessage // an object, with references to secrets of the app: see SecretRef
	Enabled bool
}

// MaxSourcesPerApp bounds the sources of an app.
const MaxSourcesPerApp = 100

// How a source stands.
const (
	SourceWaiting = "waiting" // for a node to run it, or it is not enabled
	SourceRunning = "running"
	SourceFailed  = "failed" // and is started again after a while
)

// SourceRecord is a source as its owner sees it.
type SourceRecord struct {
	Source
	State       string
	Node        string // that runs it; empty: none
	Error       string // of the last failure, also if it runs again
	FailedAt    time.Time
	LastEventAt time.Time     // when an event was taken in last; zero: never
	Lag         time.Duration // how old that event was then
	Events      int64         // that were taken in so far
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// SourceUpdate is what may change in a source; nil leaves it.
type SourceUpdate struct {
	Config  json.RawMessage `json:"config,omitempty"`
	Enabled *bool           `json:"enabled,omitempty"`
}
