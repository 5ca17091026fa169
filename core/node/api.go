package node

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/picloud/picloud/core/api"
	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/inbox"
	"github.com/picloud/picloud/core/ingress"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/postgres"
	"github.com/picloud/picloud/core/tenant"
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
		Releases:    postgres.NewReleaseStore(pool),
		Snapshots:   n.snapshots,
		Executions:  postgres.NewExecutionStore(pool),
		DeadLetters: deadLetters,
		Auth:        auth.New(users),
		Checker:     n.engines,
		Invoker:     invoker{ingress.NewInvoker(n.dispatcher, in)},
		Replayer:    replayer{deadLetters, n.dispatcher.Wake},
		Changed:     func() { n.changed(bus) },
		Ready:       n.dispatcher.Ready,
		Version:     Version,
		Log:         n.log,
	})
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
type invoker struct{ *ingress.Invoker }

func (i invoker) Invoke(ctx context.Context, s tenant.Script, in api.Invocation) (api.InvokeResult, error) {
	head := &event.HTTP{Method: in.Method, Path: in.Path, Query: in.Query, Headers: in.Headers}
	e, err := ingress.NewEntry(&s, outbox.KindInvoke, head, in.Body)
	if err != nil {
		return api.InvokeResult{}, err
	}
	e.Principal = in.Principal
	out := api.InvokeResult{ExecutionID: e.ID}
	if in.Async {
		return out, i.Append(ctx, e)
	}
	answer, err := i.Call(ctx, e)
	out.Status, out.Headers, out.Body = answer.Status, answer.Headers, answer.Body
	return out, err
}

// replayer puts dead letters back and has them claimed at once.
type replayer struct {
	store *postgres.DeadLetterStore
	wake  func()
}

func (r replayer) Replay(ctx context.Context, app, deadLetter, by uuid.UUID) (uuid.UUID, error) {
	id, err := r.store.Replay(ctx, by, app, deadLetter)
	if err == nil {
		r.wake()
	}
	return id, err
}
