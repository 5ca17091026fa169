package api

import (
	"context"
	"fmt"
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
	Script      string    `json:"script" example:"hello" doc:"Name of the script; empty if it was deleted, or see sink"`
	ScriptID    string    `json:"script_id" format:"uuid" doc:"Of the script, or of the sink"`
	Sink        string    `json:"sink,omitempty" example:"billing" doc:"Name of the sink that did not take it"`
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
	Cause       string    `json:"cause" example:"9f86d081884c7d65" doc:"The same for all that failed in one version with the same error, but for numbers, ids and what is in quotes"`
}

// DeadLetterWithBody is a dead letter with the data of its event.
type DeadLetterWithBody struct {
	DeadLetter
	Body       string `json:"body" doc:"Empty where it is not text; see body_base64"`
	BodyBase64 []byte `json:"body_base64,omitempty" doc:"The data where it is not UTF-8"`
}

func viewDeadLetter(d *record.DeadLetter) DeadLetter {
	return DeadLetter{
		ID: d.ID.String(), Script: d.TargetName, ScriptID: d.Target.String(), Sink: d.SinkName, Version: d.Version, Kind: d.Kind.String(),
		Reason: d.Reason, Error: d.Error, Fault: d.Fault, Attempts: d.Attempts, MaxAttempts: d.MaxAttempts,
		EventID: d.EventID.String(), RootID: d.RootID.String(), TriggerID: optional(d.Trigger), ReplayOf: optional(d.ReplayOf),
		AcceptedAt: d.AcceptedAt.UTC(), CreatedAt: d.CreatedAt.UTC(), ResolvedAt: d.ResolvedAt.UTC(), Resolution: d.Resolution,
		ReplayedAs: optional(d.ReplayedAs), Cause: d.Cause,
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

// LetterFilter narrows dead letters. What is absent takes everything.
type LetterFilter struct {
	Script string    `json:"script,omitempty" query:"script" maxLength:"63" doc:"Name or id of the script that failed"`
	Reason string    `json:"reason,omitempty" query:"reason" enum:"exhausted,fatal,poison,undecodable,target_gone,principal_inactive,node_lost" doc:"Why it was given up"`
	Cause  string    `json:"cause,omitempty" query:"cause" maxLength:"63" doc:"As a group has it"`
	Since  time.Time `json:"since,omitzero" query:"since" doc:"Given up at or after this time"`
	Until  time.Time `json:"until,omitzero" query:"until" doc:"Given up before this time"`
	Text   string    `json:"text,omitempty" query:"text" maxLength:"255" doc:"In the error, in any case"`
}

// letterFilter finds what the filter names; place is where it stands in the request.
func (a *api) letterFilter(ctx context.Context, place string, f *LetterFilter, open bool) (record.DeadLetterFilter, error) {
	out := record.DeadLetterFilter{Open: open, Reason: f.Reason, Cause: f.Cause, Since: f.Since, Until: f.Until, Text: f.Text}
	if f.Script == "" {
		return out, nil
	}
	var err error
	if out.Script, err = uuid.Parse(f.Script); err == nil {
		return out, nil // a script that was deleted has left letters too
	}
	out.Script, err = a.target(ctx, place+"script", f.Script)
	return out, err
}

// LetterQuery is in the input of operations on several dead letters.
type LetterQuery struct {
	AppPath
	LetterFilter
	Unresolved bool `query:"unresolved" doc:"Only those that are open"`
}

// LetterGroup is what dead letters of one cause have in common; what differs is that of the newest.
type LetterGroup struct {
	Cause   string    `json:"cause" example:"9f86d081884c7d65"`
	Count   int       `json:"count" example:"17"`
	Script  string    `json:"script" example:"hello" doc:"Name of the script; empty if it was deleted"`
	Version int       `json:"version" example:"3"`
	Reason  string    `json:"reason" example:"exhausted"`
	Fault   string    `json:"fault" example:"script"`
	Error   string    `json:"error"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Newest  string    `json:"newest" format:"uuid" doc:"The newest letter"`
}

func viewLetterGroup(g *record.DeadLetterGroup) LetterGroup {
	return LetterGroup{
		Cause: g.Cause, Count: g.Count, Script: g.Script, Version: g.Version, Reason: g.Reason, Fault: g.Fault, Error: g.Error,
		First: g.First.UTC(), Last: g.Last.UTC(), Newest: g.Newest.String(),
	}
}

// Count is how many there are.
type Count struct {
	Count int `json:"count"`
}

// NewReplay may change what is put back. What is absent stays.
type NewReplay struct {
	Body       *string `json:"body,omitempty" doc:"In place of the event's data, as text"`
	BodyBase64 []byte  `json:"body_base64,omitempty" doc:"In place of the event's data, as bytes"`
}

// ResolveAll closes dead letters.
type ResolveAll struct {
	Filter     LetterFilter `json:"filter,omitempty"`
	Resolution string       `json:"resolution" enum:"ignored,handled_by_script"`
}

// Resolved says how many were closed.
type Resolved struct {
	Resolved int  `json:"resolved"`
	More     bool `json:"more" doc:"There may be others: ask again"`
}

const (
	deadLettersPath = appPath + "/dead-letters"
	deadLetterPath  = deadLettersPath + "/{dead_letter}"
)

// maxGroups is how many causes are told.
const maxGroups = 200

func (a *api) registerDeadLetters(doc huma.API) {
	register(a, doc, operation{
		id: "list-dead-letters", method: http.MethodGet, path: deadLettersPath, tag: "dead-letters", capability: auth.AppLogRead,
		summary: "List dead letters, newest first",
	}, func(ctx context.Context, in *struct {
		LetterQuery
		PageQuery
	},
	) (*body[Page[DeadLetter]], error) {
		f, err := a.letterFilter(ctx, "query.", &in.LetterFilter, in.Unresolved)
		if err != nil {
			return nil, err
		}
		letters, next, err := a.DeadLetters.List(ctx, app(ctx), f, in.Cursor, in.Limit)
		return listed(letters, next, viewDeadLetter), err
	})
	register(a, doc, operation{
		id: "count-dead-letters", method: http.MethodGet, path: appPath + "/dead-letter-count", tag: "dead-letters",
		capability: auth.AppLogRead, summary: "Count dead letters",
	}, func(ctx context.Context, in *LetterQuery) (*body[Count], error) {
		f, err := a.letterFilter(ctx, "query.", &in.LetterFilter, in.Unresolved)
		if err != nil {
			return nil, err
		}
		n, err := a.DeadLetters.Count(ctx, app(ctx), f)
		return answer(Count{n}), err
	})
	register(a, doc, operation{
		id: "list-dead-letter-groups", method: http.MethodGet, path: appPath + "/dead-letter-groups", tag: "dead-letters",
		capability: auth.AppLogRead, summary: "List the causes of dead letters, the most frequent first, up to 200",
	}, func(ctx context.Context, in *LetterQuery) (*body[Page[LetterGroup]], error) {
		f, err := a.letterFilter(ctx, "query.", &in.LetterFilter, in.Unresolved)
		if err != nil {
			return nil, err
		}
		groups, err := a.DeadLetters.Groups(ctx, app(ctx), f, maxGroups)
		return listed(groups, "", viewLetterGroup), err
	})
	register(a, doc, operation{
		id: "resolve-dead-letters", method: http.MethodPost, path: appPath + "/dead-letter-resolutions", tag: "dead-letters",
		capability: auth.AppDeadLetterManage, summary: "Close dead letters without putting them back, up to 1,000 at a time",
	}, func(ctx context.Context, in *struct {
		AppPath
		Body ResolveAll
	},
	) (*body[Resolved], error) {
		f, err := a.letterFilter(ctx, "body.filter.", &in.Body.Filter, true)
		if err != nil {
			return nil, err
		}
		n, err := a.DeadLetters.ResolveAll(ctx, by(ctx), app(ctx), f, in.Body.Resolution)
		return answer(Resolved{n, n == 1000}), err
	})
	register(a, doc, operation{
		id: "get-dead-letter", method: http.MethodGet, path: deadLetterPath, tag: "dead-letters", capability: auth.AppLogRead,
		summary: "Get a dead letter with the data of its event",
	}, a.getDeadLetter)
	register(a, doc, operation{
		id: "replay-dead-letter", method: http.MethodPost, path: deadLetterPath + "/replay", tag: "dead-letters",
		capability: auth.AppDeadLetterManage, summary: "Put a dead letter back",
		text: "It becomes a new execution with all its attempts, and the dead letter is resolved as replayed. Its place in a chain of events stays what it was.", status: http.StatusAccepted,
		maxBody: maxPayload*4/3 + maxBody,
	}, func(ctx context.Context, in *struct {
		DeadLetterPath
		Body *NewReplay
	},
	) (*body[Replayed], error) {
		payload, err := in.Body.payload()
		if err != nil {
			return nil, err
		}
		entry, err := a.Replayer.Replay(ctx, app(ctx), in.DeadLetter, by(ctx), payload)
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

// payload is what takes the place of the event's data; nil: nothing does.
func (r *NewReplay) payload() ([]byte, error) {
	var data []byte
	switch {
	case r == nil:
		return nil, nil
	case r.Body == nil:
		data = r.BodyBase64
	case r.BodyBase64 != nil:
		return nil, wrong("body.body_base64", "body and body_base64 exclude each other")
	default:
		data = []byte(*r.Body)
	}
	if len(data) > maxPayload {
		return nil, kindNamed("too_large").problem(fmt.Sprintf("the body is over %d bytes", maxPayload))
	}
	return data, nil
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
