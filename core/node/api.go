package node

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/explain"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/ingress"
	"github.com/picloud/picloud/core/metrics"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
	"github.com/picloud/picloud/core/trigger"
	"github.com/picloud/picloud/sdk/event"
)

// Version of the product.
const Version = "0.1.0"

func (n *Node) apiHandler(
	pool *pgxpool.Pool, users *postgres.UserStore, bus *postgres.Bus, in *inbox.Inbox,
) http.Handler {
	deadLetters := postgres.NewDeadLetterStore(pool)
	return api.New(api.Config{
		Apps:        postgres.NewAppStore(pool),
		Scripts:     postgres.NewScriptStore(pool),
		Versions:    postgres.NewVersionStore(pool),
		Routes:      postgres.NewRouteStore(pool),
		Queues:      postgres.NewQueueStore(pool),
		Triggers:    postgres.NewTriggerStore(pool),
		Sinks:       postgres.NewSinkStore(pool),
		SinkChecker: n.sinks,
		Sources:     postgres.NewSourceStore(pool),
		SourceCheck: n.sources,
		SinkTester:  sender{n},
		Pauses:      postgres.NewPauseStore(pool),
		Releases:    postgres.NewReleaseStore(pool),
		Snapshots:   n.snapshots,
		Executions:  postgres.NewExecutionStore(pool),
		Usage:       postgres.NewHistoryStore(pool),
		Entries:     postgres.NewEntryStore(pool),
		Lanes:       lanes{n},
		DeadLetters: deadLetters,
		Secrets:     n.vault,
		Auth:        auth.New(users),
		Checker:     n.engines,
		Trials:      n.engines,
		Engines:     installedEngines(n.installed),
		Invoker:     invoker{ingress.NewInvoker(n.dispatcher, in), n},
		Sender:      sender{n},
		Firer:       sender{n},
		Replayer:    replayer{deadLetters, n.dispatcher.Wake},
		Changed:     func() { n.changed(bus) },
		Ready:       n.dispatcher.Ready,
		Quarantined: n.engines.Quarantined,
		Isolation:   n.isolation,
		Metrics: metrics.Handler(metrics.Sources{
			Node: n.dispatcher.Stats, Engines: n.engines.Stats, Health: postgres.NewTableStore(pool).Health, Usage: postgres.NewHistoryStore(pool).Usage,
			Slug: func(app uuid.UUID) string { return n.snapshot.Load().Slug(app) }, Log: n.log.Named("metrics"),
		}),
		MaxLimits: n.limits(),
		Version:   Version,
		Log:       n.log,
	})
}

// limits are the most that runs may be allowed here.
func (n *Node) limits() tenant.Limits {
	c := &n.cfg
	return tenant.Limits{
		MemoryBytes: c.MaxScriptMemory, CPU: retry.Duration(c.MaxScriptCPU), Goroutines: c.MaxScriptGoroutines,
		AnswerBytes: c.MaxScriptAnswer, LogLines: c.MaxScriptLogLines, LogBytes: c.MaxScriptLogBytes, Calls: c.MaxScriptCalls,
	}
}

// changeLimit bounds how long a change waits to be current on its own node.
const changeLimit = 2 * time.Second

// changed makes a change of configuration current here before its caller has the answer, and soon elsewhere.
func (n *Node) changed(bus *postgres.Bus) {
	ctx, cancel := context.WithTimeout(context.Background(), changeLimit)
	defer cancel()
	if err := n.reload(ctx); err != nil {
		n.log.Warn("the configuration may be old", "error", err)
	}
	if err := bus.Notify(ctx); err != nil {
		n.log.Warn("other nodes will learn of the change by their pulse", "error", err)
	}
}

// invoker calls scripts for the control API.
type invoker struct {
	*ingress.Invoker
	node *Node
}

func (i invoker) Invoke(ctx context.Context, s tenant.Script, in api.Invocation) (api.InvokeResult, error) {
	head := &event.HTTP{Method: in.Method, Path: in.Path, Query: in.Query, Headers: in.Headers}
	e, err := ingress.NewEntry(&s, outbox.KindInvoke, head, in.Body)
	if err != nil {
		return api.InvokeResult{}, err
	}
	e.Principal, e.Idempotency = in.Principal, in.Idempotency
	out := api.InvokeResult{ExecutionID: e.ID}
	if in.Async {
		if lane := i.node.snapshot.Load().Lane(s.ID); lane != nil {
			if err := trigger.Apply(e, lane, in.Options, &trigger.Input{HTTP: head, Body: in.Body}); err != nil {
				return out, err
			}
		}
		return out, i.Append(ctx, e)
	}
	answer, err := i.Call(ctx, e)
	out.Status, out.Headers, out.Body = answer.Status, answer.Headers, answer.Body
	return out, err
}

// sender puts messages into queues, fires triggers and tries sinks, for the control API.
type sender struct{ node *Node }

func (s sender) Send(ctx context.Context, q tenant.Queue, m api.Message) (uuid.UUID, error) {
	lane := s.node.snapshot.Load().Lane(q.ID)
	if lane == nil || !lane.Active() {
		return uuid.Nil, &tenant.Conflict{Message: "the script of the queue has no active version"}
	}
	e, err := trigger.NewEntry(lane, outbox.KindQueue, trigger.Message(q.Name, m.ContentType), m.Data, m.Options, nil)
	if err != nil {
		return uuid.Nil, err
	}
	e.Principal, e.Idempotency = m.Principal, m.Idempotency
	return e.ID, ingress.Accepted(s.node.dispatcher.Append(ctx, e))
}

func (s sender) Fire(ctx context.Context, t tenant.Trigger, c *trigger.Change, key *outbox.Idempotency) (uuid.UUID, error) {
	if t.Lane = s.node.snapshot.Load().Lane(t.ID); t.Lane == nil || !t.Lane.Active() {
		return uuid.Nil, &tenant.Conflict{Message: "the script of the trigger has no active version"}
	}
	e, err := trigger.Caused(&t, c, nil)
	if err != nil {
		return uuid.Nil, err
	}
	e.Idempotency = key
	return e.ID, ingress.Accepted(s.node.dispatcher.Append(ctx, e))
}

func (s sender) TestSink(
	ctx context.Context, k tenant.Sink, kind string, data []byte, by uuid.UUID, key *outbox.Idempotency,
) (uuid.UUID, error) {
	lane := s.node.snapshot.Load().Lane(k.ID)
	if lane == nil {
		return uuid.Nil, tenant.ErrNotFound
	}
	if kind == "" {
		kind = trigger.SinkMessage
	}
	env := event.Envelope{Type: kind, Subject: k.Name, ContentType: "application/json"}
	e, err := trigger.NewEntry(lane, outbox.KindSink, env, data, &trigger.Options{MaxAttempts: 1}, nil)
	if err != nil {
		return uuid.Nil, err
	}
	e.Principal, e.Idempotency = by, key
	return e.ID, ingress.Accepted(s.node.dispatcher.Append(ctx, e))
}

// lanes says how lanes stand on this node.
type lanes struct{ node *Node }

func (l lanes) Facts(lane, target uuid.UUID) explain.Facts {
	snapshot, state := l.node.snapshot.Load(), l.node.dispatcher.Lane(lane)
	of, sink := snapshot.Lane(lane), snapshot.Sink(target)
	if of != nil && target == tenant.EmailSink { // which is of no app, but has a lane in each
		sink = of.Sink
	}
	return explain.Facts{
		Lane: of, Target: snapshot.Script(target), Sink: sink, Running: state.Running, Limit: state.Limit,
		NextStart: state.NextStart, FreeSlots: state.FreeSlots,
	}
}

// replayer puts dead letters back and has them claimed at once.
type replayer struct {
	store *postgres.DeadLetterStore
	wake  func()
}

func (r replayer) Replay(ctx context.Context, app, deadLetter, by uuid.UUID, payload []byte) (uuid.UUID, error) {
	id, err := r.store.Replay(ctx, by, app, deadLetter, payload)
	if err == nil {
		r.wake()
	}
	return id, err
}
