package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/record"
)

// DeadLetter is an event whose script failed for good. Its id is the execution's.
type DeadLetter struct {
	ID          string    `json:"id" format:"uuid"`
	Script      string    `json:"script" example:"hello" doc:"Name of the script; empty if it was deleted"`
	ScriptID    string    `json:"script_id" format:"uuid"`
	Version     int       `json:"version" example:"3" doc:"What ran last; 0: nothing did"`
	Kind        string    `json:"kind" example:"http" doc:"What brought the event"`
	Reason      string    `json:"reason" example:"exhausted" doc:"Why it was given up"`
	Error       string    `json:"error" doc:"The last error"`
	Fault       string    `json:"fault" example:"script" doc:"Whose fault: script, plugin, caller or platform"`
	Attempts    int       `json:"attempts" example:"5"`
	MaxAttempts int       `json:"max_attempts" example:"5"`
	EventID     string    `json:"event_id" format:"uuid"`
	RootID      string    `json:"root_id" format:"uuid"`
	TriggerID   string    `json:"trigger_id,omitempty" format:"uuid"`
	ReplayOf    string    `json:"replay_of,omitempty" format:"uuid" doc:"The dead letter that was put back as this one"`
	AcceptedAt  time.Time `json:"accepted_at"`
	CreatedAt   time.Time `json:"created_at" doc:"When it was given up"`
	ResolvedAt  time.Time `json:"resolved_at,omitzero" doc:"Absent while it is open"`
	Resolution  string    `json:"resolution,omitempty" enum:"replayed,ignored,handled_by_script,handler_failed"`
	ReplayedAs  string    `json:"replayed_as,omitempty" format:"uuid" doc:"The execution that it was put back as"`
}

// DeadLetterWithBody is a dead letter with the data of its event.
type DeadLetterWithBody struct {
	DeadLetter
	Body       string `json:"body" doc:"Empty where it is not text; see body_base64"`
	BodyBase64 []byte `json:"body_base64,omitempty" doc:"The data where it is not UTF-8"`
}

func viewDeadLetter(d *record.DeadLetter) DeadLetter {
	return DeadLetter{
		ID: d.ID.String(), Script: d.TargetName, ScriptID: d.Target.String(), Version: d.Version, Kind: d.Kind.String(),
		Reason: d.Reason, Error: d.Error, Fault: d.Fault, Attempts: d.Attempts, MaxAttempts: d.MaxAttempts,
		EventID: d.EventID.String(), RootID: d.RootID.String(), TriggerID: optional(d.Trigger), ReplayOf: optional(d.ReplayOf),
		AcceptedAt: d.AcceptedAt.UTC(), CreatedAt: d.CreatedAt.UTC(), ResolvedAt: d.ResolvedAt.UTC(), Resolution: d.Resolution,
		ReplayedAs: optional(d.ReplayedAs),
	}
}

// Replayed is what a dead letter was put back as.
type Replayed struct {
	ExecutionID string `json:"execution_id" format:"uuid"`
}

// Resolution closes a dead letter.
type Resolution struct {
	Resolution string `json:"resolution" enum:"ignored,handled_by_script"`
}

// DeadLetterPath is in the input of every operation of a dead letter.
type DeadLetterPath struct {
	AppPath
	DeadLetter uuid.UUID `path:"dead_letter" format:"uuid" doc:"Id of the dead letter"`
}

const (
	deadLettersPath = appPath + "/dead-letters"
	deadLetterPath  = deadLettersPath + "/{dead_letter}"
)

func (a *api) registerDeadLetters(doc huma.API) {
	register(a, doc, operation{
		id: "list-dead-letters", method: http.MethodGet, path: deadLettersPath, tag: "dead-letters", capability: auth.AppLogRead,
		summary: "List dead letters, newest first",
	}, func(ctx context.Context, in *struct {
		AppPath
		PageQuery
		Unresolved bool `query:"unresolved" doc:"Only those that are open"`
	},
	) (*body[Page[DeadLetter]], error) {
		letters, next, err := a.DeadLetters.List(ctx, app(ctx), in.Unresolved, in.Cursor, in.Limit)
		return listed(letters, next, viewDeadLetter), err
	})
	register(a, doc, operation{
		id: "get-dead-letter", method: http.MethodGet, path: deadLetterPath, tag: "dead-letters", capability: auth.AppLogRead,
		summary: "Get a dead letter with the data of its event",
	}, a.getDeadLetter)
	register(a, doc, operation{
		id: "replay-dead-letter", method: http.MethodPost, path: deadLetterPath + "/replay", tag: "dead-letters",
		capability: auth.AppDeadLetterManage, summary: "Put a dead letter back",
		text: "It becomes a new execution with all its attempts, and the dead letter is resolved as replayed.", status: http.StatusAccepted,
	}, func(ctx context.Context, in *DeadLetterPath) (*body[Replayed], error) {
		entry, err := a.Replayer.Replay(ctx, app(ctx), in.DeadLetter, by(ctx))
		return answer(Replayed{entry.String()}), err
	})
	register(a, doc, operation{
		id: "resolve-dead-letter", method: http.MethodPost, path: deadLetterPath + "/resolve", tag: "dead-letters",
		capability: auth.AppDeadLetterManage, summary: "Close a dead letter without putting it back",
	}, func(ctx context.Context, in *struct {
		DeadLetterPath
		Body Resolution
	},
	) (*body[DeadLetterWithBody], error) {
		if err := a.DeadLetters.Resolve(ctx, by(ctx), app(ctx), in.DeadLetter, in.Body.Resolution); err != nil {
			return nil, err
		}
		return a.getDeadLetter(ctx, &in.DeadLetterPath)
	})
}

func (a *api) getDeadLetter(ctx context.Context, in *DeadLetterPath) (*body[DeadLetterWithBody], error) {
	d, err := a.DeadLetters.Get(ctx, app(ctx), in.DeadLetter)
	if err != nil {
		return nil, err
	}
	out := DeadLetterWithBody{DeadLetter: viewDeadLetter(&d)}
	out.Body, out.BodyBase64 = textOrBytes(d.Payload)
	return answer(out), nil
}
