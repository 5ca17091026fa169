package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/record"
	"github.com/picloud/picloud/core/tenant"
)

// Execution is one attempt at one event.
type Execution struct {
	ID         string    `json:"id" format:"uuid" doc:"The same for all attempts"`
	Attempt    int       `json:"attempt" example:"1" doc:"From 1; 0 if it was never started"`
	Script     string    `json:"script" example:"hello" doc:"Name of the script; empty if it was deleted, or see sink"`
	ScriptID   string    `json:"script_id" format:"uuid" doc:"Of the script, or of the sink"`
	Sink       string    `json:"sink,omitempty" example:"billing" doc:"Name of the sink that it was delivered to"`
	Version    int       `json:"version" example:"3" doc:"What ran; 0: nothing did"`
	Kind       string    `json:"kind" example:"http" doc:"What brought the event"`
	Outcome    string    `json:"outcome" enum:"succeeded,retried,dead_lettered,cancelled,expired,stopped,handler_failed,abandoned,failed"`
	Reason     string    `json:"reason" example:"script_error" doc:"Why, in a word; empty for a success"`
	Status     int       `json:"status" example:"200" doc:"Of the answer; 0: none"`
	Error      string    `json:"error" doc:"Why, in a sentence"`
	Fault      string    `json:"fault" example:"script" doc:"Whose fault: script, plugin, caller or platform"`
	Depth      int       `json:"depth" doc:"How many events caused one another before this one"`
	EventID    string    `json:"event_id" format:"uuid"`
	RootID     string    `json:"root_id" format:"uuid" doc:"The first execution of the chain"`
	TriggerID  string    `json:"trigger_id,omitempty" format:"uuid" doc:"The route or trigger that asked for it"`
	AcceptedAt time.Time `json:"accepted_at"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at" doc:"When the end was recorded"`
	DurationMS float64   `json:"duration_ms" example:"12.5"`
}

func viewExecution(e *record.Execution) Execution {
	return Execution{
		ID: e.ID.String(), Attempt: e.Attempt, Script: e.ScriptName, ScriptID: e.Script.String(), Sink: e.SinkName, Version: e.Version,
		Kind: e.Kind.String(), Outcome: e.Outcome.String(), Reason: e.Reason, Status: e.Status, Error: e.Error, Fault: e.Fault,
		Depth: e.Depth, EventID: e.EventID.String(), RootID: e.RootID.String(), TriggerID: optional(e.Trigger),
		AcceptedAt: e.AcceptedAt.UTC(), StartedAt: e.StartedAt.UTC(), FinishedAt: e.FinishedAt.UTC(),
		DurationMS: float64(e.Duration.Microseconds()) / 1000,
	}
}

// ExecutionHistory is all attempts at one event.
type ExecutionHistory struct {
	ID       string      `json:"id" format:"uuid"`
	Attempts []Execution `json:"attempts" doc:"Those that have ended, first to last"`
}

// LogLine is one line that a script logged.
type LogLine struct {
	Attempt int             `json:"attempt" example:"1"`
	Time    time.Time       `json:"time"`
	Level   string          `json:"level" enum:"trace,debug,info,warn,error"`
	Message string          `json:"message" example:"hello"`
	Data    json.RawMessage `json:"data,omitempty" doc:"What the script logged with it"`
}

// ExecutionPath is in the input of every operation of an execution.
type ExecutionPath struct {
	AppPath
	Execution uuid.UUID `path:"execution" format:"uuid" doc:"Id of the execution"`
}

const (
	executionsPath = appPath + "/executions"
	executionPath  = executionsPath + "/{execution}"
)

func (a *api) registerExecutions(doc huma.API) {
	register(a, doc, operation{
		id: "list-executions", method: http.MethodGet, path: executionsPath, tag: "executions", capability: auth.AppLogRead,
		summary: "List attempts, newest first",
	}, a.listExecutions)
	register(a, doc, operation{
		id: "get-execution", method: http.MethodGet, path: executionPath, tag: "executions", capability: auth.AppLogRead,
		summary: "Get all attempts of an execution",
	}, func(ctx context.Context, in *ExecutionPath) (*body[ExecutionHistory], error) {
		attempts, err := a.Executions.Get(ctx, app(ctx), in.Execution)
		if err != nil {
			return nil, err
		}
		out := ExecutionHistory{ID: in.Execution.String()}
		for i := range attempts {
			out.Attempts = append(out.Attempts, viewExecution(&attempts[i]))
		}
		return answer(out), nil
	})
	register(a, doc, operation{
		id: "get-execution-logs", method: http.MethodGet, path: executionPath + "/logs", tag: "executions",
		capability: auth.AppLogRead, summary: "List what an execution logged, oldest first",
	}, a.executionLogs)
}

func (a *api) listExecutions(ctx context.Context, in *struct {
	AppPath
	PageQuery
	Script  string `query:"script" maxLength:"63" doc:"Only of the script with this name or id"`
	Outcome string `query:"outcome" enum:"succeeded,retried,dead_lettered,cancelled,expired,stopped,handler_failed,abandoned,failed" doc:"Only those that ended so"`
},
) (*body[Page[Execution]], error) {
	var f record.ExecutionFilter
	if in.Script != "" {
		s, err := a.Scripts.Get(ctx, app(ctx), in.Script)
		if errors.Is(err, tenant.ErrNotFound) {
			return nil, unknown("query.script", "script", in.Script)
		}
		if err != nil {
			return nil, err
		}
		f.Script = s.ID
	}
	for outcome, word := range outbox.Outcomes {
		if word == in.Outcome {
			f.Outcome = outcome
		}
	}
	executions, next, err := a.Executions.List(ctx, app(ctx), f, in.Cursor, in.Limit)
	return listed(executions, next, viewExecution), err
}

func (a *api) executionLogs(ctx context.Context, in *struct {
	ExecutionPath
	PageQuery
},
) (*body[Page[LogLine]], error) {
	if _, err := a.Executions.Entry(ctx, app(ctx), in.Execution); err != nil {
		return nil, err
	}
	logs, err := a.Executions.Logs(ctx, app(ctx), in.Execution)
	if err != nil {
		return nil, err
	}
	// The logs of an execution are bounded and stored as one, so the cursor is how many lines came before.
	skip := 0
	if in.Cursor != "" {
		if skip, err = strconv.Atoi(in.Cursor); err != nil || skip < 0 {
			return nil, tenant.ErrCursor
		}
	}
	logs = logs[min(skip, len(logs)):]
	next := ""
	if len(logs) > in.Limit {
		logs, next = logs[:in.Limit], strconv.Itoa(skip+in.Limit)
	}
	return listed(logs, next, func(l *record.Log) LogLine {
		return LogLine{Attempt: l.Attempt, Time: l.Time.UTC(), Level: l.Level, Message: l.Message, Data: l.Data}
	}), nil
}
