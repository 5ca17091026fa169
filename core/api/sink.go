package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/picloud/picloud/core/auth"
	"github.com/picloud/picloud/core/outbox"
	"github.com/picloud/picloud/core/tenant"
)

// Sink is where events of an app leave the platform.
type Sink struct {
	ID          string          `json:"id" format:"uuid"`
	Name        string          `json:"name" example:"billing"`
	Kind        string          `json:"kind" example:"http" doc:"http, smtp, or that of an installed plugin"`
	Config      json.RawMessage `json:"config" doc:"As it was given, with references in place of secrets"`
	Version     int             `json:"version" example:"1" doc:"Counts changes of the configuration"`
	TimeoutMS   int64           `json:"timeout_ms" example:"30000" doc:"Of one attempt"`
	MaxAttempts int             `json:"max_attempts" example:"8"`
	Policy      Policy          `json:"policy"`
	Paused      bool            `json:"paused" doc:"Itself or the whole app"`
	CreatedAt   time.Time       `json:"created_at"`
	UpdatedAt   time.Time       `json:"updated_at"`
}

func viewSink(k *tenant.SinkRecord) Sink {
	return Sink{
		ID: k.ID.String(), Name: k.Name, Kind: k.Kind, Config: k.Config, Version: k.Version, TimeoutMS: k.Timeout.Milliseconds(),
		MaxAttempts: k.MaxAttempts, Policy: viewPolicy(&k.Policy), Paused: k.Paused, CreatedAt: k.CreatedAt.UTC(), UpdatedAt: k.UpdatedAt.UTC(),
	}
}

// NewSink is what makes a sink.
type NewSink struct {
	Name        string          `json:"name" minLength:"1" maxLength:"63" example:"billing" doc:"Lower-case letters, digits, dashes and underscores; unique in the app"`
	Kind        string          `json:"kind" minLength:"1" maxLength:"63" example:"http"`
	Config      json.RawMessage `json:"config" doc:"An object, as the kind takes it: http has url, method, headers and keys; smtp has host, port, tls, user, password, from, to and subject. Secrets are references to those of the app: {\"secret\": \"NAME\"}"`
	TimeoutMS   int64           `json:"timeout_ms,omitempty" minimum:"1" maximum:"300000" default:"30000"`
	MaxAttempts int             `json:"max_attempts,omitempty" minimum:"1" maximum:"25" default:"8"`
	Policy      Policy          `json:"policy,omitempty"`
}

// SinkChange is what may change in a sink. What is absent stays; a configuration or policy replaces the whole one.
type SinkChange struct {
	Config      json.RawMessage `json:"config,omitempty"`
	TimeoutMS   *int            `json:"timeout_ms,omitempty" minimum:"1" maximum:"300000"`
	MaxAttempts *int            `json:"max_attempts,omitempty" minimum:"1" maximum:"25"`
	Policy      *Policy         `json:"policy,omitempty"`
}

// SinkTest is what a sink is tried with.
type SinkTest struct {
	Type string          `json:"type,omitempty" maxLength:"255" example:"order.paid"`
	Data json.RawMessage `json:"data,omitempty" doc:"Any JSON value; absent: {\"test\": true}"`
}

// SinkPath is in the input of every operation of a sink.
type SinkPath struct {
	AppPath
	Sink string `path:"sink" maxLength:"63" doc:"Name or id of the sink" example:"billing"`
}

const (
	sinksPath = appPath + "/sinks"
	sinkPath  = sinksPath + "/{sink}"
)

func (a *api) registerSinks(doc huma.API) {
	register(a, doc, operation{
		id: "list-sinks", method: http.MethodGet, path: sinksPath, tag: "sinks", capability: auth.AppRead,
		summary: "List the sinks of an app, by name",
	}, func(ctx context.Context, in *struct {
		AppPath
		PageQuery
	},
	) (*body[Page[Sink]], error) {
		sinks, next, err := a.Sinks.List(ctx, app(ctx), in.Cursor, in.Limit)
		return listed(sinks, next, viewSink), err
	})
	register(a, doc, operation{
		id: "create-sink", method: http.MethodPost, path: sinksPath, tag: "sinks", capability: auth.AppWriteRoute,
		summary: "Make a sink", status: http.StatusCreated,
		text: "This is a release. The configuration is checked by the sink itself, with the secrets that it refers to, which must be there.",
	}, a.createSink)
	register(a, doc, operation{
		id: "get-sink", method: http.MethodGet, path: sinkPath, tag: "sinks", capability: auth.AppRead,
		summary: "Get a sink",
	}, func(ctx context.Context, in *SinkPath) (*body[Sink], error) {
		k, err := a.Sinks.Get(ctx, app(ctx), in.Sink)
		return answer(viewSink(&k)), err
	})
	register(a, doc, operation{
		id: "update-sink", method: http.MethodPatch, path: sinkPath, tag: "sinks", capability: auth.AppWriteRoute,
		summary: "Change a sink", text: "This is a release. What waits is delivered by the new configuration.",
	}, a.updateSink)
	register(a, doc, operation{
		id: "delete-sink", method: http.MethodDelete, path: sinkPath, tag: "sinks", capability: auth.AppWriteRoute,
		summary: "Delete a sink",
		text:    "This is a release. One that triggers lead to is a conflict, which names them. What waits for it becomes dead letters.",
	}, func(ctx context.Context, in *SinkPath) (*struct{}, error) {
		k, err := a.Sinks.Get(ctx, app(ctx), in.Sink)
		if err != nil {
			return nil, err
		}
		if err := a.Sinks.Delete(ctx, by(ctx), app(ctx), k.ID); err != nil {
			return nil, err
		}
		a.Changed()
		return nil, nil
	})
	register(a, doc, operation{
		id: "test-sink", method: http.MethodPost, path: sinkPath + "/test", tag: "sinks", capability: auth.AppInvoke,
		summary: "Send something to a sink", status: http.StatusAccepted, maxBody: maxMessage + maxBody,
		text: "It is delivered as what a script sends, once: the execution says how it went.",
	}, a.testSink)
}

// checkSink says what is wrong with the configuration of a sink of a kind.
func (a *api) checkSink(ctx context.Context, kind string, config json.RawMessage) error {
	err := a.SinkChecker.Check(ctx, app(ctx), kind, config)
	if invalid := (*tenant.Invalid)(nil); errors.As(err, &invalid) {
		return wrong("body."+invalid.Field, invalid.Message)
	}
	return err
}

func (a *api) createSink(ctx context.Context, in *struct {
	AppPath
	Body NewSink
},
) (*body[Sink], error) {
	b := &in.Body
	if err := tenant.CheckName(b.Name); err != nil {
		return nil, wrong("body.name", err.Error())
	}
	if b.Name == tenant.EmailName {
		return nil, wrong("body.name", "is that of the server's own mail, which scripts send by ctx.email")
	}
	policy, err := b.Policy.record("body.policy.", false)
	if err != nil {
		return nil, err
	}
	if err := a.checkSink(ctx, b.Kind, b.Config); err != nil {
		return nil, err
	}
	k, err := a.Sinks.Create(ctx, by(ctx), tenant.Sink{
		App: app(ctx), Name: b.Name, Kind: b.Kind, Config: b.Config, Timeout: time.Duration(b.TimeoutMS) * time.Millisecond,
		MaxAttempts: b.MaxAttempts, Policy: *policy,
	})
	if err != nil {
		return nil, err
	}
	a.Changed()
	return answer(viewSink(&k)), nil
}

func (a *api) updateSink(ctx context.Context, in *struct {
	SinkPath
	Body SinkChange
},
) (*body[Sink], error) {
	k, err := a.Sinks.Get(ctx, app(ctx), in.Sink)
	if err != nil {
		return nil, err
	}
	u := tenant.SinkUpdate{Config: in.Body.Config, TimeoutMS: in.Body.TimeoutMS, MaxAttempts: in.Body.MaxAttempts}
	if in.Body.Policy != nil {
		if u.Policy, err = in.Body.Policy.record("body.policy.", false); err != nil {
			return nil, err
		}
	}
	if u.Config != nil {
		if err := a.checkSink(ctx, k.Kind, u.Config); err != nil {
			return nil, err
		}
	}
	if k, err = a.Sinks.Update(ctx, by(ctx), app(ctx), k.ID, u); err != nil {
		return nil, err
	}
	a.Changed()
	return answer(viewSink(&k)), nil
}

func (a *api) testSink(ctx context.Context, in *struct {
	SinkPath
	KeyHeader
	Body SinkTest
},
) (*body[Accepted], error) {
	k, err := a.Sinks.Get(ctx, app(ctx), in.Sink)
	if err != nil {
		return nil, err
	}
	data := in.Body.Data
	if data == nil {
		data = json.RawMessage(`{"test":true}`)
	}
	if len(data) > maxMessage {
		return nil, kindNamed("too_large").problem("the data is larger than 1 MiB")
	}
	key, err := in.idempotency(k.ID, in.Body)
	if err != nil {
		return nil, err
	}
	sent, err := a.SinkTester.TestSink(ctx, k.Sink, in.Body.Type, data, by(ctx), key)
	duplicate := (*outbox.Duplicate)(nil)
	if errors.As(err, &duplicate) {
		sent, err = duplicate.Entry, nil
	}
	return answer(Accepted{sent.String(), outbox.AcceptedAt(sent).UTC(), duplicate != nil}), err
}

// sinkTarget finds the sink that a request names in field.
func (a *api) sinkTarget(ctx context.Context, field, ref string) (uuid.UUID, error) {
	k, err := a.Sinks.Get(ctx, app(ctx), ref)
	if errors.Is(err, tenant.ErrNotFound) {
		return uuid.Nil, unknown(field, "sink", ref)
	}
	return k.ID, err
}
