// Package tenant is what the platform runs: apps, their scripts and routes, and the releases that tie them together.
// Ingress and the dispatcher read it from a Snapshot in memory; the API changes it through core/postgres.
package tenant

import (
	"time"

	"github.com/google/uuid"
)

// App is the unit of isolation: it owns scripts, routes and data.
type App struct {
	ID      uuid.UUID
	Slug    string
	Name    string
	Release int64
	Limits  Limits   // the most that runs of its scripts may have, and what they have where the script does not say
	Weight  int      // its share of the slots while others want some too, relative to theirs; zero: one
	Domains []string // hosts: literal, "*.suffix", or "*" for every host that nobody else claims
	Scripts []Script
	Routes  []Route

	Queues   []Queue
	Triggers []Trigger
	Sinks    []Sink
	Sources  []Source
	Paused   []uuid.UUID // lanes that start nothing; the zero id: every lane
}

// Script is a user's program in the version that the app's release names.
type Script struct {
	ID          uuid.UUID
	App         uuid.UUID
	Name        string
	Kind        string // KindEndpoint or KindModule
	Engine      string // "yaegi"
	Version     int    // zero: nothing is active
	Hash        string // of the active version's bundle, modules included; set by Link, and changed by App.Bound
	Timeout     time.Duration
	MaxAttempts int
	Policy      Policy
	Limits      Limits // its own
	// Transactional scripts have their writes take effect together, at the end of a run that succeeds.
	Transactional bool
	Grants        []string // services that runs for nobody may use; nil: all of DefaultGrants
	Bounds        Limits   // what holds for its runs; set by App.Bound, else those of DefaultLimits hold

	VersionHash string   // of the active version alone
	Imports     []string // names of the modules that the active version imports itself, sorted
	Modules     []Module // all that it needs, by name; set by Link
}

// Module is a module in the version that scripts are linked with.
type Module struct {
	Script  uuid.UUID
	Name    string
	Version int
}

// The kinds of a script.
const (
	KindEndpoint = "endpoint" // may be the target of a route
	KindModule   = "module"   // imported by other scripts of its engine
)

// Route sends requests for a method and path to a script.
type Route struct {
	ID      uuid.UUID
	App     uuid.UUID
	Script  uuid.UUID
	Method  string // upper case, or "ANY"
	Host    string // empty: every host of the app
	Pattern string // "/users/{id}"
	Mode    string // ModeSync or ModeAsync
	// Wait is how long a caller of ModeSync waits before the run goes on without it; zero: as long as the script may take.
	Wait time.Duration
}

// The modes of a route.
const (
	ModeSync  = "sync"  // the caller waits for the script's answer
	ModeAsync = "async" // the caller has a 202 at once
)
