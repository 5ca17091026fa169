package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
)

// Paused says whether something starts nothing.
type Paused struct {
	Paused bool `json:"paused" doc:"True too while something that it belongs to is paused"`
}

// registerPauses adds pausing and resuming of everything that may own entries.
func (a *api) registerPauses(doc huma.API) {
	pausable(a, doc, "app", appPath, "apps", auth.AppAdmin, func(context.Context, *AppPath) (uuid.UUID, error) {
		return uuid.Nil, nil
	})
	pausable(a, doc, "script", scriptPath, "scripts", auth.AppWriteScript, func(ctx context.Context, in *ScriptPath) (uuid.UUID, error) {
		s, err := a.Scripts.Get(ctx, app(ctx), in.Script)
		return s.ID, err
	})
	pausable(a, doc, "queue", queuePath, "queues", auth.AppWriteScript, func(ctx context.Context, in *QueuePath) (uuid.UUID, error) {
		q, err := a.Queues.Get(ctx, app(ctx), in.Queue)
		return q.ID, err
	})
	pausable(a, doc, "sink", sinkPath, "sinks", auth.AppWriteRoute, func(ctx context.Context, in *SinkPath) (uuid.UUID, error) {
		k, err := a.Sinks.Get(ctx, app(ctx), in.Sink)
		return k.ID, err
	})
	pausable(a, doc, "trigger", triggerPath, "triggers", auth.AppWriteRoute, func(ctx context.Context, in *TriggerPath) (uuid.UUID, error) {
		t, err := a.Triggers.Get(ctx, app(ctx), in.Trigger)
		return t.ID, err
	})
}

func pausable[I any](
	a *api, doc huma.API, what, path, tag string, capability auth.Capability, lane func(context.Context, *I) (uuid.UUID, error),
) {
	set := func(change func(ctx context.Context, by, app, lane uuid.UUID) error) func(context.Context, *I) (*body[Paused], error) {
		return func(ctx context.Context, in *I) (*body[Paused], error) {
			id, err := lane(ctx, in)
			if err != nil {
				return nil, err
			}
			if err := change(ctx, by(ctx), app(ctx), id); err != nil {
				return nil, err
			}
			a.Changed()
			paused, err := a.Pauses.Paused(ctx, app(ctx), id)
			return answer(Paused{paused}), err
		}
	}
	register(a, doc, operation{
		id: "pause-" + what, method: http.MethodPost, path: path + "/pause", tag: tag, capability: capability,
		summary: "Have the " + what + " start nothing",
		text:    "What runs comes to its end; events are accepted and wait. Callers who would wait for an answer have a 503.",
	}, set(func(ctx context.Context, by, app, lane uuid.UUID) error { return a.Pauses.Pause(ctx, by, app, lane) }))
	register(a, doc, operation{
		id: "resume-" + what, method: http.MethodPost, path: path + "/resume", tag: tag, capability: capability,
		summary: "End a pause of the " + what,
	}, set(func(ctx context.Context, by, app, lane uuid.UUID) error { return a.Pauses.Resume(ctx, by, app, lane) }))
}
