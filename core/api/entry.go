package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/explain"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/record"
	"github.com/picloud/picloud/core/tenant"
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

// EntryQuery narrows a list of entries.
type EntryQuery struct {
	AppPath
	PageQuery
	State   string `query:"state" enum:"scheduled,ready,running,blocked" doc:"Only those in this state"`
	Script  string `query:"script" maxLength:"63" doc:"Only those that a script owns, by name or id: calls and requests without a trigger"`
	Queue   string `query:"queue" maxLength:"63" doc:"Only messages of a queue, by name or id"`
	Trigger string `query:"trigger" maxLength:"63" doc:"Only those of a trigger, by name or id"`
}

// EntryPath is in the input of every operation of an entry.
type EntryPath struct {
	AppPath
	Entry uuid.UUID `path:"entry" format:"uuid" doc:"Id of the entry, which is that of its execution"`
}

// CancelledEntry says what became of a request to cancel.
type CancelledEntry struct {
	Ended bool `json:"ended" doc:"false: it runs, and is stopped within a second or two"`
}

// LaneCancel names what to cancel: one of its fields.
type LaneCancel struct {
	Script  string `json:"script,omitempty" maxLength:"63" doc:"Name or id: calls and requests without a trigger"`
	Queue   string `json:"queue,omitempty" maxLength:"63" doc:"Name or id"`
	Trigger string `json:"trigger,omitempty" maxLength:"63" doc:"Name or id"`
}

// CancelledLane says how many entries were cancelled.
type CancelledLane struct {
	Cancelled int  `json:"cancelled"`
	More      bool `json:"more" doc:"There may be others: ask again"`
}

// Explanation says why an entry has not ended.
type Explanation struct {
	State     string    `json:"state" enum:"scheduled,ready,running,blocked"`
	Reasons   []Reason  `json:"reasons" doc:"The strongest first"`
	ExpiresAt time.Time `json:"expires_at,omitzero" doc:"It is given up if it has not started by then"`
}

// Reason is one thing that holds an entry.
type Reason struct {
	Code      string    `json:"code" enum:"cancelling,running,orphaned,target_gone,paused,delayed,backoff,gathering,gate,concurrency,rate,queue,slots,soon"`
	Message   string    `json:"message" doc:"What holds it"`
	Frees     string    `json:"frees" doc:"What would let it go on"`
	Until     time.Time `json:"until,omitzero" doc:"When, where that is known"`
	BlockedBy []string  `json:"blocked_by,omitempty" doc:"Executions that are in the way"`
}

const (
	entriesPath = appPath + "/entries"
	entryPath   = entriesPath + "/{entry}"
)

func (a *api) registerEntries(doc huma.API) {
	register(a, doc, operation{
		id: "list-entries", method: http.MethodGet, path: entriesPath, tag: "executions", capability: auth.AppLogRead,
		summary: "List what waits and what runs, oldest first",
	}, a.listEntries)
	register(a, doc, operation{
		id: "get-entry", method: http.MethodGet, path: entryPath, tag: "executions", capability: auth.AppLogRead,
		summary: "Tell where an entry stands or how it ended", text: "The id is the one that a 202 or a problem gave.",
	}, func(ctx context.Context, in *EntryPath) (*body[Entry], error) {
		e, err := a.Executions.Entry(ctx, app(ctx), in.Entry)
		if err != nil {
			return nil, err
		}
		return answer(viewEntry(&e)), nil
	})
	register(a, doc, operation{
		id: "explain-entry", method: http.MethodGet, path: entryPath + "/explain", tag: "executions", capability: auth.AppLogRead,
		summary: "Tell why an entry waits and what would let it go on",
		text:    "What concerns slots, concurrency and rate is how it stands on the node that answers. An entry that has ended is not found.",
	}, a.explainEntry)
	register(a, doc, operation{
		id: "cancel-entry", method: http.MethodPost, path: entryPath + "/cancel", tag: "executions", capability: auth.AppInvoke,
		summary: "Cancel an entry", text: "It ends as cancelled: at once while it waits, soon if it runs.",
	}, func(ctx context.Context, in *EntryPath) (*body[CancelledEntry], error) {
		ended, err := a.Entries.Cancel(ctx, by(ctx), app(ctx), in.Entry)
		return answer(CancelledEntry{ended}), err
	})
	register(a, doc, operation{
		id: "cancel-entries", method: http.MethodPost, path: entriesPath + "/cancel", tag: "executions", capability: auth.AppInvoke,
		summary: "Cancel everything of a queue, trigger or script, up to 500 entries at a time",
	}, func(ctx context.Context, in *struct {
		AppPath
		Body LaneCancel
	},
	) (*body[CancelledLane], error) {
		lane, err := a.laneOf(ctx, "body.", in.Body.Script, in.Body.Queue, in.Body.Trigger)
		if err != nil {
			return nil, err
		}
		if lane == uuid.Nil {
			return nil, wrong("body", "names neither a script nor a queue nor a trigger")
		}
		n, more, err := a.Entries.CancelLane(ctx, by(ctx), app(ctx), lane)
		return answer(CancelledLane{n, more}), err
	})
}

// laneOf finds what a request names by one of three fields; the zero id if by none.
func (a *api) laneOf(ctx context.Context, place, script, queue, trigger string) (uuid.UUID, error) {
	given := 0
	for _, name := range []string{script, queue, trigger} {
		if name != "" {
			given++
		}
	}
	var id uuid.UUID
	var err error
	field := ""
	switch {
	case given > 1:
		return id, wrong(place+"script", "script, queue and trigger exclude each other")
	case script != "":
		return a.target(ctx, place+"script", script)
	case queue != "":
		var q tenant.QueueRecord
		q, err = a.Queues.Get(ctx, app(ctx), queue)
		id, field = q.ID, "queue"
	case trigger != "":
		var t tenant.TriggerRecord
		t, err = a.Triggers.Get(ctx, app(ctx), trigger)
		id, field = t.ID, "trigger"
	}
	if errors.Is(err, tenant.ErrNotFound) {
		return id, unknown(place+field, field, queue+trigger) // one of them is empty
	}
	return id, err
}

func (a *api) listEntries(ctx context.Context, in *EntryQuery) (*body[Page[Entry]], error) {
	lane, err := a.laneOf(ctx, "query.", in.Script, in.Queue, in.Trigger)
	if err != nil {
		return nil, err
	}
	f := record.EntryFilter{Lane: lane}
	for state, word := range states {
		if word == in.State {
			f.State = &state
		}
	}
	entries, next, err := a.Entries.List(ctx, app(ctx), f, in.Cursor, in.Limit)
	return listed(entries, next, viewEntry), err
}

func (a *api) explainEntry(ctx context.Context, in *EntryPath) (*body[Explanation], error) {
	f, err := a.Entries.Facts(ctx, app(ctx), in.Entry)
	if err != nil {
		return nil, err
	}
	facts := a.Lanes.Facts(f.Lane, f.Target)
	facts.State, facts.Now, facts.RunAt, facts.Attempt, facts.LastError = f.State, f.Now, f.RunAt, f.Attempt, f.LastError
	facts.Cancelled, facts.Gate, facts.GateLimit = f.Cancelled, f.Gate, f.GateLimit
	facts.Holders, facts.Ahead, facts.Node = f.Holders, f.Ahead, f.Node
	out := Explanation{State: states[f.State]}
	if f.State != outbox.Running { // what has started does not expire
		out.ExpiresAt = f.ExpiresAt.UTC()
	}
	for _, r := range explain.Why(&facts) {
		x := Reason{Code: string(r.Code), Message: r.Message, Frees: r.Frees, Until: r.Until.UTC()}
		for _, id := range r.By {
			x.BlockedBy = append(x.BlockedBy, id.String())
		}
		out.Reasons = append(out.Reasons, x)
	}
	return answer(out), nil
}
