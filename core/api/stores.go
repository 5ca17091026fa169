package api

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/explain"
	"github.com/picloud/picloud/core/history"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/record"
	"github.com/picloud/picloud/core/secret"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/engine"
	"github.com/picloud/picloud/sdk/event"
)

// The stores below share their rules. by is the user who asks for a change, for the audit log. Whatever the app does not
// have is tenant.ErrNotFound, also if another app has it; what does not fit is a *tenant.Conflict or *tenant.Invalid.
// Lists return up to limit items and the cursor of the next page, which is empty on the last.

// AppStore keeps apps and the hosts they claim.
type AppStore interface {
	Resolve(ctx context.Context, ref string) (uuid.UUID, error)
	Create(ctx context.Context, by uuid.UUID, a tenant.AppRecord) (tenant.AppRecord, error)
	Get(ctx context.Context, id uuid.UUID) (tenant.AppRecord, error)
	List(ctx context.Context, only uuid.UUID, cursor string, limit int) ([]tenant.AppRecord, string, error)
	Update(ctx context.Context, by, id uuid.UUID, slug, name, description *string) (tenant.AppRecord, error)
	// Weigh sets an app's share of the slots.
	Weigh(ctx context.Context, by, id uuid.UUID, weight int) (tenant.AppRecord, error)
	// Limit says what runs of an app's scripts may have.
	Limit(ctx context.Context, by, id uuid.UUID, limits tenant.Limits) (tenant.AppRecord, error)
	Delete(ctx context.Context, by, id uuid.UUID) error

	Domains(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.Domain, string, error)
	Claim(ctx context.Context, by, app uuid.UUID, host string) (tenant.Domain, error)
	Release(ctx context.Context, by, app uuid.UUID, host string) error
}

// ScriptStore keeps scripts.
type ScriptStore interface {
	Create(ctx context.Context, by uuid.UUID, r tenant.ScriptRecord) (tenant.ScriptRecord, error)
	Get(ctx context.Context, app uuid.UUID, ref string) (tenant.ScriptRecord, error)
	List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.ScriptRecord, string, error)
	Update(ctx context.Context, by, app, id uuid.UUID, u tenant.ScriptUpdate) (tenant.ScriptRecord, error)
	Delete(ctx context.Context, by, app, id uuid.UUID) error
}

// VersionStore keeps the versions of scripts. compiled has the hashes of bundles with modules that were compiled: a change that
// makes another one is tenant.ErrStale, and one after which a script lacks what it imports is *tenant.Unlinked.
type VersionStore interface {
	// Scripts returns all scripts of an app, linked.
	Scripts(ctx context.Context, app uuid.UUID) ([]tenant.Script, error)
	// Sources returns the files of versions, by their scripts' ids; all or tenant.ErrNotFound.
	Sources(ctx context.Context, app uuid.UUID, of []tenant.Module) (map[uuid.UUID][]engine.File, error)
	Create(ctx context.Context, app uuid.UUID, v tenant.Version, activate bool, compiled []string) (tenant.Version, error)
	Activate(ctx context.Context, by, app, script uuid.UUID, number int, compiled []string) error
	Get(ctx context.Context, app, script uuid.UUID, number int) (tenant.Version, error)
	List(ctx context.Context, app, script uuid.UUID, cursor string, limit int) ([]tenant.Version, string, error)
}

// RouteStore keeps routes.
type RouteStore interface {
	Create(ctx context.Context, by uuid.UUID, r tenant.Route) (tenant.RouteRecord, error)
	Conflicts(ctx context.Context, r tenant.Route) error
	Get(ctx context.Context, app, id uuid.UUID) (tenant.RouteRecord, error)
	List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.RouteRecord, string, error)
	Delete(ctx context.Context, by, app, id uuid.UUID) error
}

// QueueStore keeps queues.
type QueueStore interface {
	Create(ctx context.Context, by uuid.UUID, q tenant.Queue) (tenant.QueueRecord, error)
	Get(ctx context.Context, app uuid.UUID, ref string) (tenant.QueueRecord, error)
	List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.QueueRecord, string, error)
	Update(ctx context.Context, by, app, id uuid.UUID, script *uuid.UUID, policy *tenant.Policy) (tenant.QueueRecord, error)
	Delete(ctx context.Context, by, app, id uuid.UUID) error
	// Counts returns how many messages wait and how many run; of each state it counts up to 10,000.
	Counts(ctx context.Context, app, id uuid.UUID) (waiting, running int, err error)
}

// TriggerStore keeps triggers.
type TriggerStore interface {
	Create(ctx context.Context, t tenant.Trigger) (tenant.TriggerRecord, error)
	Get(ctx context.Context, app uuid.UUID, ref string) (tenant.TriggerRecord, error)
	List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.TriggerRecord, string, error)
	Update(ctx context.Context, by, app, id uuid.UUID, policy *tenant.Policy, filter *tenant.TriggerFilter, enabled *bool) (tenant.TriggerRecord, error)
	Delete(ctx context.Context, by, app, id uuid.UUID) error
}

// SinkStore keeps sinks.
type SinkStore interface {
	Create(ctx context.Context, by uuid.UUID, k tenant.Sink) (tenant.SinkRecord, error)
	Get(ctx context.Context, app uuid.UUID, ref string) (tenant.SinkRecord, error)
	List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.SinkRecord, string, error)
	Update(ctx context.Context, by, app, id uuid.UUID, u tenant.SinkUpdate) (tenant.SinkRecord, error)
	Delete(ctx context.Context, by, app, id uuid.UUID) error
}

// SourceStore keeps sources.
type SourceStore interface {
	Create(ctx context.Context, by uuid.UUID, f tenant.Source) (tenant.SourceRecord, error)
	Get(ctx context.Context, app uuid.UUID, ref string) (tenant.SourceRecord, error)
	List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.SourceRecord, string, error)
	Update(ctx context.Context, by, app, id uuid.UUID, u tenant.SourceUpdate) (tenant.SourceRecord, error)
	Delete(ctx context.Context, by, app, id uuid.UUID) error
}

// SourceChecker says what is wrong with the configuration of a source, as a *tenant.Invalid; other errors are faults.
type SourceChecker interface {
	Check(ctx context.Context, app uuid.UUID, kind string, config json.RawMessage) error
}

// SinkChecker says what is wrong with the configuration of a sink, as a *tenant.Invalid; other errors are faults.
type SinkChecker interface {
	Check(ctx context.Context, app uuid.UUID, kind string, config json.RawMessage) error
}

// SinkTester sends something to a sink once, and returns the id of the execution.
type SinkTester interface {
	TestSink(ctx context.Context, k tenant.Sink, kind string, data []byte, by uuid.UUID, key *outbox.Idempotency) (uuid.UUID, error)
}

// PauseStore keeps what is paused. The lane is a script, queue or trigger, or the zero id for all of the app.
type PauseStore interface {
	Pause(ctx context.Context, by, app, lane uuid.UUID) error
	Resume(ctx context.Context, by, app, lane uuid.UUID) error
	Paused(ctx context.Context, app, lane uuid.UUID) (bool, error)
}

// ReleaseStore keeps releases. Deploy has the errors of VersionStore.Create.
type ReleaseStore interface {
	Deploy(ctx context.Context, by, app uuid.UUID, d tenant.Deployment) (tenant.Deployed, error)
	Get(ctx context.Context, app uuid.UUID, number int64) (tenant.Release, error)
	List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]tenant.Release, string, error)
	Activate(ctx context.Context, by, app uuid.UUID, number int64) (int64, error)
}

// SnapshotStore reads the whole configuration as it is now.
type SnapshotStore interface {
	Load(ctx context.Context) (*tenant.Snapshot, error)
}

// UsageStore counts runs.
type UsageStore interface {
	// Runs returns how the attempts at the events of a script ended, newest day first.
	Runs(ctx context.Context, app, script uuid.UUID) ([]history.Runs, error)
}

// ExecutionStore reads what became of entries.
type ExecutionStore interface {
	List(ctx context.Context, app uuid.UUID, f record.ExecutionFilter, cursor string, limit int) ([]record.Execution, string, error)
	Get(ctx context.Context, app, id uuid.UUID) ([]record.Execution, error)
	Logs(ctx context.Context, app, id uuid.UUID) ([]record.Log, error)
	Entry(ctx context.Context, app, id uuid.UUID) (record.Entry, error)
}

// EntryStore reads and cancels entries that have not ended.
type EntryStore interface {
	List(ctx context.Context, app uuid.UUID, f record.EntryFilter, cursor string, limit int) ([]record.Entry, string, error)
	Facts(ctx context.Context, app, id uuid.UUID) (record.EntryFacts, error)
	Cancel(ctx context.Context, by, app, id uuid.UUID) (ended bool, err error)
	CancelLane(ctx context.Context, by, app, lane uuid.UUID) (n int, more bool, err error)
}

// Lanes says how a lane and a target stand on this node. Only the fields that the node knows are set.
type Lanes interface {
	Facts(lane, target uuid.UUID) explain.Facts
}

// DeadLetterStore reads and closes dead letters, and puts them back in numbers.
type DeadLetterStore interface {
	List(ctx context.Context, app uuid.UUID, f record.DeadLetterFilter, cursor string, limit int) ([]record.DeadLetter, string, error)
	Count(ctx context.Context, app uuid.UUID, f record.DeadLetterFilter) (int, error)
	Groups(ctx context.Context, app uuid.UUID, f record.DeadLetterFilter, limit int) ([]record.DeadLetterGroup, error)
	Get(ctx context.Context, app, id uuid.UUID) (record.DeadLetter, error)
	Resolve(ctx context.Context, by, app, id uuid.UUID, resolution string) error
	ResolveAll(ctx context.Context, by, app uuid.UUID, f record.DeadLetterFilter, resolution string) (int, error)

	StartReplay(ctx context.Context, by, app uuid.UUID, f record.DeadLetterFilter, rate int, stopOnFailure bool) (record.Replay, error)
	ListReplays(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]record.Replay, string, error)
	GetReplay(ctx context.Context, app, id uuid.UUID) (record.Replay, error)
	CancelReplay(ctx context.Context, by, app, id uuid.UUID) error
}

// SecretStore keeps values that only scripts read. Its errors may be *fault.Fault, where the node has no key.
type SecretStore interface {
	List(ctx context.Context, app uuid.UUID, cursor string, limit int) ([]secret.Info, string, error)
	Set(ctx context.Context, by secret.Author, app uuid.UUID, name string, value json.RawMessage) (secret.Info, error)
	Delete(ctx context.Context, by secret.Author, app uuid.UUID, name string) error
	// Rotate seals some secrets with a new key, and says how many, and how many are left for another call.
	Rotate(ctx context.Context, by uuid.UUID) (done, left int, err error)
}

// Authenticator turns a bearer token into a principal. auth.ErrInvalid says that it is not one.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (*auth.Principal, error)
}

// Trials run what is not deployed.
type Trials interface {
	// Try loads b and runs it once, for at most timeout, in a process of its own. took is the time of the run alone. Errors are those of Checker, or of
	// the run, as *fault.Fault.
	Try(ctx context.Context, engineName string, b engine.Bundle, timeout time.Duration, r *engine.Request, out engine.Reply) (
		loaded engine.Loaded, took time.Duration, err error)
}

// Checker compiles bundles without running anything that is deployed, and ends at the first that is wrong, which the last
// Loaded is of. A *fault.Fault of kind fault.Compile says that it is; the diagnostics then say where.
type Checker interface {
	Check(ctx context.Context, engineName string, bundles []engine.Bundle) ([]engine.Loaded, error)
}

// Invoker calls a script as a request would. It returns once there is an answer, or for an asynchronous call once the
// entry is durable. The result names the execution also where the error is a *fault.Fault of the run.
type Invoker interface {
	Invoke(ctx context.Context, s tenant.Script, in Invocation) (InvokeResult, error)
}

// Sender puts a message into a queue and returns the entry's id once it is durable. An *outbox.Duplicate names the entry
// that the same request was accepted as before.
type Sender interface {
	Send(ctx context.Context, q tenant.Queue, m Message) (uuid.UUID, error)
}

// Firer makes the entry of a trigger for an event that did not happen, and returns its id once it is durable. Errors are those
// of Sender.
type Firer interface {
	Fire(ctx context.Context, t tenant.Trigger, c *trigger.Change, key *outbox.Idempotency) (uuid.UUID, error)
}

// Message is what is sent to a queue.
type Message struct {
	Data        []byte
	ContentType string
	Options     *trigger.Options
	Idempotency *outbox.Idempotency // nil: none
	Principal   uuid.UUID
}

// Invocation is a call of a script through the control API.
type Invocation struct {
	Method    string
	Path      string // decoded
	Query     string // raw, without "?"
	Headers   []event.Header
	Body      []byte
	Async     bool
	Principal uuid.UUID

	Options     *trigger.Options    // of an asynchronous call
	Idempotency *outbox.Idempotency // likewise; nil: none
}

// InvokeResult is the script's answer; of an asynchronous call, only the execution's id.
type InvokeResult struct {
	ExecutionID uuid.UUID
	Status      int
	Headers     []event.Header
	Body        []byte
}

// Replayer puts a dead letter back as a new entry and marks it replayed. A dead letter that the app does not have is
// tenant.ErrNotFound, one that is resolved a *tenant.Conflict. payload, where not nil, takes the place of the event's data.
type Replayer interface {
	Replay(ctx context.Context, app, deadLetter, by uuid.UUID, payload []byte) (entry uuid.UUID, err error)
}
