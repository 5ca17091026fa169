// Package engine is the contract between the platform and a plugin that runs scripts.
//
// A plugin author implements Engine and calls Serve. The host starts one process for each app and engine, loads the
// app's bundles into it and sends invocations over one stream; protobuf and gRPC stay inside this package.
package engine

import (
	"context"
	"time"

	"github.com/picloud/picloud/sdk/event"
)

// Engine runs scripts. The host calls Load before the first Invoke of a bundle; calls may overlap.
type Engine interface {
	// Info says what the engine is. It is called before anything else and must not block.
	Info() Info
	// Load compiles a bundle and keeps it ready to run, replacing nothing: old bundles stay until Unload. The script's
	// initialisers run here, so Load must end when ctx ends. A *fault.Fault of kind fault.Compile says that the source
	// is wrong; Loaded.Diagnostics then holds where. Loading a loaded bundle is a no-op.
	Load(ctx context.Context, b Bundle) (Loaded, error)
	// Unload forgets a bundle. Runs in progress end normally. Unknown hashes are ignored.
	Unload(hash string)
	// Invoke runs a loaded bundle once and answers through out. It returns when nothing of the run is left, at the
	// latest a moment after ctx ends (its deadline is the run's). nil means the answer is complete. A *fault.Fault
	// says what failed and whose fault it was; any other error counts as the engine's. A bundle that is not loaded is such an
	// error, not the script's.
	Invoke(ctx context.Context, inv *Invocation, out Reply) error
}

// Info describes an engine.
type Info struct {
	Name       string   // "yaegi": the second half of the plugin's name
	Version    string   // of the engine
	SDKVersion string   // what ctx.SDKVersion says in its scripts
	Extensions []string // file names that belong to it, such as ".go"
	// LoadLimit is how long Load may take, on a machine that is busy. Zero: DefaultLoadLimit; most: MaxLoadLimit.
	LoadLimit time.Duration
}

// How long compiling a script and running its initialisers may take.
const (
	DefaultLoadLimit = 5 * time.Second
	MaxLoadLimit     = 30 * time.Second
)

// Bundle is what an engine loads: the files of one script version.
type Bundle struct {
	Hash   string // identifies files, limits and SDK version
	Script string // name, for messages
	Files  []File // the first is the entry point; they import one another by relative names
	// Modules are what the files may import as "app/<name>", and what those import in turn. There may be more than they use.
	Modules []Module
	// Module says that the files are those of the module Script, which scripts import: it is loaded as they would have it, to see
	// that it is right, and never invoked. It may be among Modules, too.
	Module bool
	Limits Limits
}

// Module is a script of the same app and engine that others import.
type Module struct {
	Name  string
	Files []File // the first is the entry point
}

// File is one source file.
type File struct {
	Name string
	Data []byte
}

// Limits bound one run. Zero means the engine's default.
type Limits struct {
	Pool      int // invocations of this bundle that may run at one time
	LogLines  int
	LogBytes  int
	BodyBytes int // the largest answer

	// Memory is what a run may have, in bytes, and CPU the processor time that it may take. Where an engine cannot tell runs
	// apart it measures them together.
	Memory int
	CPU    time.Duration
	// Goroutines, or what the language has in their place, that a run may have at one time.
	Goroutines int
}

// Loaded tells the outcome of Load.
type Loaded struct {
	Diagnostics []Diagnostic
	// Imports are the names of the modules that the files import themselves, sorted. They are there also where the load failed,
	// as far as they were seen, and may then name what is not in Bundle.Modules.
	Imports []string
}

// Diagnostic is one finding in a script's source. Line and Column are 1-based, zero where unknown; a column counts bytes. File is
// the name of a file of the bundle, or of a module's with the module's name before it: "greet/greet.go".
type Diagnostic struct {
	File    string
	Line    int
	Column  int
	Message string
	Warning bool
}

// Invocation is one run of a bundle.
type Invocation struct {
	Bundle      string // hash
	ExecutionID string
	Attempt     int
	Event       *event.Envelope
	Body        []byte // the event's data
	Log         func(Log)
	// Call asks a service of the host and waits for its answer. Errors are faults.
	Call func(ctx context.Context, service, method string, args []byte) ([]byte, error)
	// Lend is for an engine to set, before the script runs, where a run keeps others out, such as by its place in a pool. It is
	// called when the script begins to wait for another one, and back when it no longer does. Neither may block: the messages of all
	// runs wait behind them.
	Lend func() (back func())
}

// Log is one line that a script logged. Level is trace, debug, info, warn or error.
type Log struct {
	Time    time.Time
	Level   string
	Message string
	Data    []byte // JSON; may be empty
}

// Reply takes the answer of a run: one head, then any number of chunks. Returning from Invoke ends it. The calls block
// while the receiver is behind and fail once the run is over. They keep nothing of their arguments. Not safe for
// concurrent use.
type Reply interface {
	Head(Head) error
	Write(chunk []byte) (int, error)
}

// Head is the beginning of an answer.
type Head struct {
	Status  int
	Headers []event.Header
}
