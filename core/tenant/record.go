package tenant

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/sdk/engine"
)

// Conditions that the stores of apps report.
var (
	// ErrNotFound says that the app has nothing of that id, name or number, or that there is no such app. What belongs
	// to another app is not found either.
	ErrNotFound = errors.New("not found")
	// ErrCursor says that a list was continued with something else than the cursor it gave.
	ErrCursor = errors.New("the cursor is not one that this list gave")
	// ErrStale says that a change was checked against modules that have changed since: check it again.
	ErrStale = errors.New("the app's modules changed meanwhile")
)

// Conflict says that a change does not fit what is there. The message is for the person who asked for the change.
type Conflict struct {
	Message string
	With    uuid.UUID // what stands in the way, where the caller may know it
}

func (c *Conflict) Error() string { return c.Message }

// Invalid says that a value of a change is wrong.
type Invalid struct {
	Field   string // of the change, such as "pattern" or "routes[1].host"
	Message string
}

func (i *Invalid) Error() string { return i.Field + ": " + i.Message }

// AppRecord is an app as its owner sees it.
type AppRecord struct {
	ID          uuid.UUID
	Slug        string
	Name        string
	Description string
	Release     int64 // zero: nothing was released yet
	Weight      int
	Limits      Limits
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// Domain is the claim of an app to a host.
type Domain struct {
	Host      string
	CreatedAt time.Time
}

// ScriptRecord is a script as its owner sees it.
type ScriptRecord struct {
	Script
	Description string
	ImportedBy  []string // scripts whose active version imports this module itself, by name
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// ScriptUpdate is what may change in a script; nil leaves it.
type ScriptUpdate struct {
	TimeoutMS   *int    `json:"timeout_ms,omitempty"`
	MaxAttempts *int    `json:"max_attempts,omitempty"`
	Description *string `json:"description,omitempty"`
	Policy      *Policy `json:"policy,omitempty"`
	Limits      *Limits `json:"limits,omitempty"`

	Transactional *bool     `json:"transactional,omitempty"`
	Grants        *[]string `json:"grants,omitempty"`
}

// QueueRecord is a queue as its owner sees it.
type QueueRecord struct {
	Queue
	ScriptName string
	Paused     bool // itself, its script or its app
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

// TriggerRecord is a trigger as its owner sees it.
type TriggerRecord struct {
	Trigger
	ScriptName string // or
	SinkName   string
	Paused     bool // itself, what it leads to or its app
	CreatedAt  time.Time
	UpdatedAt  time.Time
}

// Version is one state of a script's source. It never changes.
type Version struct {
	Script     uuid.UUID
	Number     int
	Files      []engine.File // the first is the entry point; nil in lists
	Hash       string
	SDKVersion string
	Imports    []string // names of the modules that the files import themselves, sorted
	Note       string
	CreatedBy  uuid.UUID
	CreatedAt  time.Time
}

// RouteRecord is a route as its owner sees it.
type RouteRecord struct {
	Route
	ScriptName string
	CreatedAt  time.Time
}

// Release is one state of an app: which version of each script is active, and all routes.
type Release struct {
	Number    int64
	Action    string // what made it, such as "version.activate"
	Manifest  json.RawMessage
	CreatedBy uuid.UUID
	CreatedAt time.Time
}

// Deployment brings a script to a new active version and makes sure of its routes, in one release.
type Deployment struct {
	Script      string // name; made if missing
	Kind        string
	Engine      string
	Timeout     time.Duration // zero: unchanged, or the default for a new script
	MaxAttempts int           // zero: likewise

	Transactional *bool // nil: likewise
	Version       Version
	Compiled      []string // hashes of the bundles with modules that an engine has compiled, see Affected
	Routes        []Route  // made where missing; one that leads to another script is a Conflict
}

// Deployed is what a Deployment made.
type Deployed struct {
	Script  ScriptRecord
	Version Version
	Routes  []RouteRecord
	Release int64
}
