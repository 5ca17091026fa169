package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/retry"
	"github.com/picloud/picloud/core/tenant"
)

// Limits bound each run of a script.
type Limits struct {
	MemoryBytes int64 `json:"memory_bytes,omitempty" minimum:"0" example:"67108864" doc:"What it may have in memory; runs of an app in one engine are measured together. 117440512 (112 MiB) where nobody says"`
	CPUMS       int64 `json:"cpu_ms,omitempty" minimum:"0" example:"2000" doc:"Processor time. 30000 where nobody says"`
	Goroutines  int   `json:"goroutines,omitempty" minimum:"0" example:"100" doc:"That a script in Go may have at one time. 1000 where nobody says"`
	AnswerBytes int64 `json:"answer_bytes,omitempty" minimum:"0" example:"1048576" doc:"The body of its answer. 6291456 (6 MiB) where nobody says"`
	LogLines    int   `json:"log_lines,omitempty" minimum:"0" example:"100" doc:"What is logged beyond it is dropped, and counted. 1000 where nobody says"`
	LogBytes    int   `json:"log_bytes,omitempty" minimum:"0" example:"65536" doc:"Messages and their data. 262144 (256 KiB) where nobody says"`
	Calls       int   `json:"calls,omitempty" minimum:"0" example:"100" doc:"Of services, such as sending to a queue. 1000 where nobody says"`
}

func viewLimits(l *tenant.Limits) Limits {
	return Limits{
		MemoryBytes: l.MemoryBytes, CPUMS: time.Duration(l.CPU).Milliseconds(), Goroutines: l.Goroutines, AnswerBytes: l.AnswerBytes,
		LogLines: l.LogLines, LogBytes: l.LogBytes, Calls: l.Calls,
	}
}

// record returns what l asks for, or says what of it is beyond most. place is where l is in the request.
func (l *Limits) record(place string, most tenant.Limits) (tenant.Limits, error) {
	r := tenant.Limits{
		MemoryBytes: l.MemoryBytes, CPU: retry.Duration(l.CPUMS) * retry.Duration(time.Millisecond), Goroutines: l.Goroutines,
		AnswerBytes: l.AnswerBytes, LogLines: l.LogLines, LogBytes: l.LogBytes, Calls: l.Calls,
	}
	err := r.Validate(most)
	if invalid := (*tenant.Invalid)(nil); errors.As(err, &invalid) {
		field := invalid.Field
		if field == "cpu" {
			field = "cpu_ms"
		}
		return r, wrong(place+field, invalid.Message)
	}
	return r, err
}

func (a *api) registerLimits(doc huma.API) {
	register(a, doc, operation{
		id: "limit-app", method: http.MethodPut, path: "/api/v1/app-limits/{slug}", tag: "apps", capability: auth.InstanceCreateApp,
		summary: "Say what runs of an app's scripts may have",
		text: "What is named holds for scripts that do not say, and is the most that one may say. It replaces all that was said before. " +
			"It is for whoever makes apps to say, not for the apps.",
	}, func(ctx context.Context, in *struct {
		Slug string `path:"slug" maxLength:"63" doc:"Of the app, or its id"`
		Body Limits
	},
	) (*body[App], error) {
		id, err := a.Apps.Resolve(ctx, in.Slug)
		if err != nil {
			return nil, err
		}
		limits, err := in.Body.record("body.", a.MaxLimits)
		if err != nil {
			return nil, err
		}
		r, err := a.Apps.Limit(ctx, by(ctx), id, limits)
		if err != nil {
			return nil, err
		}
		a.Changed()
		return answer(viewApp(&r)), nil
	})
}

// scriptLimits reads the limits that a script is to have.
func (a *api) scriptLimits(ctx context.Context, in *Limits) (*tenant.Limits, error) {
	if in == nil {
		return nil, nil
	}
	r, err := a.Apps.Get(ctx, app(ctx))
	if err != nil {
		return nil, err
	}
	limits, err := in.record("body.limits.", r.Limits.Over(a.MaxLimits).Under(a.MaxLimits))
	return &limits, err
}
