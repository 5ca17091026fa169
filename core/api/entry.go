package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/record"
)

// states are the words of the API for where an entry stands.
var states = map[outbox.State]string{
	outbox.Scheduled: "scheduled",
	outbox.Ready:     "ready",
	outbox.Running:   "running",
	outbox.Blocked:   "blocked",
}

// Entry is where one delivery of an event stands, or how it ended.
type Entry struct {
	ID          string     `json:"id" format:"uuid" doc:"The execution's id"`
	EventID     string     `json:"event_id" format:"uuid"`
	ScriptID    string     `json:"script_id" format:"uuid"`
	Kind        string     `json:"kind" example:"http" doc:"What brought the event"`
	State       string     `json:"state" enum:"scheduled,ready,running,blocked,succeeded,dead_lettered,cancelled,expired,stopped,handler_failed,abandoned,failed,retried" doc:"scheduled waits for run_at, ready for a free place, blocked for an entry before it; the others are final"`
	Attempt     int        `json:"attempt" example:"1" doc:"How often it was started"`
	MaxAttempts int        `json:"max_attempts,omitempty" example:"5" doc:"Absent once it has ended"`
	AcceptedAt  time.Time  `json:"accepted_at"`
	RunAt       time.Time  `json:"run_at,omitzero" doc:"When it is or was due; absent once it has ended"`
	LastError   string     `json:"last_error,omitempty" doc:"Of the attempt before; absent once it has ended"`
	Last        *Execution `json:"last,omitempty" doc:"The last attempt; absent until it has ended"`
}

func viewEntry(e *record.Entry) Entry {
	out := Entry{
		ID: e.ID.String(), EventID: e.EventID.String(), ScriptID: e.Script.String(), Kind: e.Kind.String(),
		Attempt: e.Attempt, MaxAttempts: e.MaxAttempts, AcceptedAt: e.AcceptedAt.UTC(),
	}
	if w := e.Waiting; w != nil {
		out.State, out.RunAt, out.LastError = states[w.State], w.RunAt.UTC(), w.LastError
		return out
	}
	last := viewExecution(e.Ended)
	out.State, out.Last = last.Outcome, &last
	return out
}

func (a *api) registerEntries(doc huma.API) {
	register(a, doc, operation{
		id: "get-entry", method: http.MethodGet, path: appPath + "/entries/{entry}", tag: "executions", capability: auth.AppLogRead,
		summary: "Tell where an entry stands or how it ended", text: "The id is the one that a 202 or a problem gave.",
	}, func(ctx context.Context, in *struct {
		AppPath
		Entry uuid.UUID `path:"entry" format:"uuid" doc:"Id of the entry, which is that of its execution"`
	},
	) (*body[Entry], error) {
		e, err := a.Executions.Entry(ctx, app(ctx), in.Entry)
		if err != nil {
			return nil, err
		}
		return answer(viewEntry(&e)), nil
	})
}
