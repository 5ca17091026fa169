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

// Replay is dead letters on their way back.
type Replay struct {
	ID            string    `json:"id,omitempty" format:"uuid" doc:"Absent in a preview"`
	State         string    `json:"state" enum:"preview,running,done,stopped,cancelled" doc:"stopped: at a failure"`
	Rate          int       `json:"rate" doc:"Letters a second"`
	StopOnFailure bool      `json:"stop_on_failure"`
	Total         int       `json:"total" doc:"How many the filter found when it began"`
	Replayed      int       `json:"replayed" doc:"How many were put back so far"`
	Failed        int       `json:"failed" doc:"How many of those are dead letters again"`
	CreatedAt     time.Time `json:"created_at,omitzero"`
	EndedAt       time.Time `json:"ended_at,omitzero"`
}

func viewReplay(r *record.Replay) Replay {
	out := Replay{
		ID: r.ID.String(), State: r.State, Rate: r.Rate, StopOnFailure: r.StopOnFailure, Total: r.Total, Replayed: r.Replayed,
		Failed: r.Failed, CreatedAt: r.CreatedAt.UTC(),
	}
	if r.EndedAt != nil {
		out.EndedAt = r.EndedAt.UTC()
	}
	return out
}

// NewReplays is what puts dead letters back in numbers.
type NewReplays struct {
	Filter        LetterFilter `json:"filter,omitempty" doc:"Which of the open dead letters"`
	Rate          int          `json:"rate,omitempty" minimum:"1" maximum:"1000" default:"10" doc:"How many a second"`
	StopOnFailure bool         `json:"stop_on_failure,omitempty" doc:"Stop as soon as one of them is a dead letter again"`
	Preview       bool         `json:"preview,omitempty" doc:"Only tell how many there are"`
}

// ReplayPath is in the input of every operation of a replay.
type ReplayPath struct {
	AppPath
	Replay uuid.UUID `path:"replay" format:"uuid" doc:"Id of the replay"`
}

const (
	replaysPath = appPath + "/replays"
	replayPath  = replaysPath + "/{replay}"
)

func (a *api) registerReplays(doc huma.API) {
	register(a, doc, operation{
		id: "start-replay", method: http.MethodPost, path: replaysPath, tag: "dead-letters", capability: auth.AppDeadLetterManage,
		summary: "Put dead letters back, some a second",
		text:    "It goes on by itself, on whichever node is there, with the letters that are open now, oldest first.", status: http.StatusAccepted,
	}, a.startReplay)
	register(a, doc, operation{
		id: "list-replays", method: http.MethodGet, path: replaysPath, tag: "dead-letters", capability: auth.AppLogRead,
		summary: "List replays, newest first",
	}, func(ctx context.Context, in *struct {
		AppPath
		PageQuery
	},
	) (*body[Page[Replay]], error) {
		replays, next, err := a.DeadLetters.ListReplays(ctx, app(ctx), in.Cursor, in.Limit)
		return listed(replays, next, viewReplay), err
	})
	register(a, doc, operation{
		id: "get-replay", method: http.MethodGet, path: replayPath, tag: "dead-letters", capability: auth.AppLogRead,
		summary: "Tell how far a replay is",
	}, a.getReplay)
	register(a, doc, operation{
		id: "cancel-replay", method: http.MethodPost, path: replayPath + "/cancel", tag: "dead-letters",
		capability: auth.AppDeadLetterManage, summary: "Stop a replay", text: "What was put back stays so.",
	}, func(ctx context.Context, in *ReplayPath) (*body[Replay], error) {
		if err := a.DeadLetters.CancelReplay(ctx, by(ctx), app(ctx), in.Replay); err != nil {
			return nil, err
		}
		return a.getReplay(ctx, in)
	})
}

func (a *api) startReplay(ctx context.Context, in *struct {
	AppPath
	Body NewReplays
},
) (*body[Replay], error) {
	f, err := a.letterFilter(ctx, "body.filter.", &in.Body.Filter, true)
	if err != nil {
		return nil, err
	}
	if in.Body.Preview {
		n, err := a.DeadLetters.Count(ctx, app(ctx), f)
		return answer(Replay{State: "preview", Rate: in.Body.Rate, StopOnFailure: in.Body.StopOnFailure, Total: n}), err
	}
	r, err := a.DeadLetters.StartReplay(ctx, by(ctx), app(ctx), f, in.Body.Rate, in.Body.StopOnFailure)
	return answer(viewReplay(&r)), err
}

func (a *api) getReplay(ctx context.Context, in *ReplayPath) (*body[Replay], error) {
	r, err := a.DeadLetters.GetReplay(ctx, app(ctx), in.Replay)
	return answer(viewReplay(&r)), err
}
